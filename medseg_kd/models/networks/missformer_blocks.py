"""Blocks of MISSFormer.

Maps are (N, H, W, C): linear layers and norms take them as they are, and a convolution gets the channels-last view
(N, C, H, W) of the same memory, so that nothing is copied between the two.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention of tokens to those of a context."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Queries from ``x`` (N, L, C), keys and values from ``context`` (N, S, C), result (N, L, C)."""
        q = self.q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(context).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Reduction(nn.Conv2d):
    """Convolution of patches that do not overlap: (N, H, W, C) to (N, H/ratio, W/ratio, C)."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__(channels, channels, ratio, ratio)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class DepthwiseSkip(nn.Conv2d):
    """x + DWConv(x) on (N, H, W, C), 3x3: one convolution, whose kernel is that of DWConv plus one in the middle."""

    middle: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1, groups=channels)
        middle = torch.zeros(3, 3)
        middle[1, 1] = 1
        self.register_buffer("middle", middle, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x.permute(0, 3, 1, 2), self.weight + self.middle, self.bias).permute(0, 2, 3, 1)


class EfficientAttention(nn.Module):
    """Self-attention of a map; keys and values come from it with height and width over ``ratio`` (SegFormer, PVT)."""

    def __init__(self, channels: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.attend = Attention(channels, heads)
        self.reduce = nn.Sequential(Reduction(channels, ratio), nn.LayerNorm(channels)) if ratio > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        return self.attend(x.flatten(1, 2), self.reduce(x).flatten(1, 2)).view(x.shape)


class EnhancedMixFFN(nn.Module):
    """fc2(GELU(LN(h + DWConv(h)))) with h = fc1(x), four times as wide as x."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.dwconv = DepthwiseSkip(4 * channels)
        self.norm = nn.LayerNorm(4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        return self.fc2(F.gelu(self.norm(self.dwconv(self.fc1(x)))))


class TransformerBlock(nn.Module):
    """Attention, then the feed-forward, each on the normalised map and added to it."""

    def __init__(self, channels: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = EfficientAttention(channels, heads, ratio)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = EnhancedMixFFN(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class BridgeLayer(nn.Module):
    """A layer of the enhanced transformer context bridge: attention across all stages, a feed-forward for each.

    The width of the tokens is the first stage's, which divides the others'. Keys and values come from the maps with
    height and width over ``ratios``.
    """

    def __init__(self, channels: Sequence[int], ratios: Sequence[int]) -> None:
        super().__init__()
        width = channels[0]
        self.norm1 = nn.LayerNorm(width)
        self.attend = Attention(width, heads=1)
        self.reduce = nn.ModuleList(
            Reduction(c, ratio) if ratio > 1 else nn.Identity() for c, ratio in zip(channels, ratios, strict=True)
        )
        self.norm_reduced = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.mlps = nn.ModuleList(EnhancedMixFFN(c) for c in channels)

    def forward(self, x: Tensor, shapes: list[torch.Size]) -> Tensor:
        """Tokens (N, L, width) of maps of the given shapes to the same number of tokens."""
        normed = self.norm1(x)
        maps = to_maps(normed, shapes)
        context = to_tokens([reduce(m) for reduce, m in zip(self.reduce, maps, strict=True)], x.shape[-1])
        x = x + self.attend(normed, self.norm_reduced(context))
        # A map cut out of a batch of tokens has gaps, and a linear layer is slower on it than the copy costs.
        maps = [m.contiguous() for m in to_maps(self.norm2(x), shapes)]
        return x + to_tokens([mlp(m) for mlp, m in zip(self.mlps, maps, strict=True)], x.shape[-1])


def to_tokens(maps: list[Tensor], width: int) -> Tensor:
    """Cut the channels of maps (N, H, W, k * width), k of its own for each, into k tokens a position: (N, L, width).

    The tokens of a position follow one another, then comes the next position, then the next map.
    """
    return torch.cat([m.reshape(m.shape[0], -1, width) for m in maps], dim=1)


def to_maps(tokens: Tensor, shapes: list[torch.Size]) -> list[Tensor]:
    """Undo :func:`to_tokens`: views of the tokens with the given shapes."""
    lengths = [h * w * (c // tokens.shape[-1]) for _, h, w, c in shapes]
    return [part.view(shape) for part, shape in zip(tokens.split(lengths, dim=1), shapes, strict=True)]
