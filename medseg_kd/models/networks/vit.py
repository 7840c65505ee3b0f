"""Vision transformer on a feature map."""

from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor, nn


class PositionEmbedding(nn.Module):
    """Adds a learned map of ``grid`` (rows, columns), zeros at first, to a feature map, whose size it is resized to.

    Loading a ``state_dict`` of another grid gives the parameter that grid.
    """

    def __init__(self, channels: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = nn.Parameter(torch.zeros(1, channels, *grid))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, h, w) to the same shape."""
        return x + resize_grid(self.grid, x.shape[-2:])

    def takes_shape(self, name: str, shape: torch.Size) -> bool:
        """Whether a weight of this shape can be loaded: any rows and columns will do."""
        return len(shape) == 4 and shape[:2] == self.get_parameter(name).shape[:2]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        given = state_dict.get(f"{prefix}grid")
        if given is not None and given.shape != self.grid.shape and self.takes_shape("grid", given.shape):
            new, old = ("x".join(map(str, shape[2:])) for shape in (given.shape, self.grid.shape))
            print_log(f"position embedding: grid {new} of the checkpoint instead of {old}", "current")
            # The parameter stays the object that an optimizer may hold already.
            self.grid.data = self.grid.data.new_empty(given.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)


def resize_grid(grid: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Resize a position embedding (1, C, h, w) to ``size`` (rows, columns).

    Bilinear between the centres of the outermost cells, which is what the published TransUNet does once when it loads
    the weights of another grid. To its own size it changes nothing.
    """
    return F.interpolate(grid, size=size, mode="bilinear", align_corners=True)


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al., NeurIPS 2017)."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (N, T, channels) to the same shape."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        return self.out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class MLP(nn.Sequential):
    """Two linear layers with a GELU between them, dropout after each; initialised as in the published code."""

    def __init__(self, channels: int, hidden: int, dropout: float) -> None:
        fc1, fc2, drop = nn.Linear(channels, hidden), nn.Linear(hidden, channels), nn.Dropout(dropout)
        super().__init__(OrderedDict(fc1=fc1, gelu=nn.GELU(), dropout=drop, fc2=fc2, dropout_again=drop))
        for layer in (fc1, fc2):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.normal_(layer.bias, std=1e-6)


class Block(nn.Module):
    """Transformer block, normalised before attention and before the MLP."""

    def __init__(self, channels: int, num_heads: int, mlp_channels: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(channels, eps=1e-6)
        self.attention = Attention(channels, num_heads)
        self.mlp_norm = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = MLP(channels, mlp_channels, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (N, T, channels) to the same shape."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class VisionTransformer(nn.Module):
    """Encoder of ViT (Dosovitskiy et al., ICLR 2021) on a feature map: one token a position, no class token.

    The position embedding has ``grid`` (rows, columns). Dropout is on the embedded tokens and in the MLPs.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        num_layers: int,
        num_heads: int,
        mlp_channels: int,
        grid: tuple[int, int],
        dropout: float,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.patch_embedding = nn.Conv2d(in_channels, channels, 1)
        self.position_embedding = PositionEmbedding(channels, grid)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(Block(channels, num_heads, mlp_channels, dropout) for _ in range(num_layers)))
        self.norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, h, w) to (N, channels, h, w)."""
        size = x.shape[-2:]
        x = self.position_embedding(self.patch_embedding(x))
        x = self.dropout(x.flatten(2).transpose(1, 2))
        x = self.norm(self.blocks(x))
        return x.transpose(1, 2).unflatten(2, size)
