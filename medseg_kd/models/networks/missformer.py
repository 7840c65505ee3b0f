"""MISSFormer: a U-shaped network of transformers."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from medseg_kd.errors import UserError
from medseg_kd.models.networks.input_check import check_input
from medseg_kd.models.networks.missformer_blocks import BridgeLayer, TransformerBlock, to_maps, to_tokens
from medseg_kd.models.weights.missformer import unused_weights
from medseg_kd.registry import MODELS


class EncoderStage(nn.Module):
    """Overlapping patches, 2 * stride - 1 wide, then ``depth`` transformer blocks and a norm."""

    def __init__(self, in_channels: int, channels: int, stride: int, depth: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(in_channels, channels, 2 * stride - 1, stride, stride - 1)
        self.patch_norm = nn.LayerNorm(channels)
        self.blocks = nn.Sequential(*(TransformerBlock(channels, heads, ratio) for _ in range(depth)))
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, channels, H/stride, W/stride), channels last in memory."""
        x = self.patch_norm(self.patch_embed(x).permute(0, 2, 3, 1))
        return self.norm(self.blocks(x)).permute(0, 3, 1, 2)


class Expand(nn.Module):
    """Patch expanding: every position becomes factor x factor normalised ones, still side by side."""

    def __init__(self, in_channels: int, channels: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.linear = nn.Linear(in_channels, factor**2 * channels, bias=False)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, in_channels) to (N, H, W, factor, factor, channels)."""
        return self.norm(self.linear(x).unflatten(-1, (self.factor, self.factor, -1)))


class UpBlock(nn.Module):
    """A decoder step: twice the resolution, the skip beside it, a linear layer, two transformer blocks."""

    def __init__(self, in_channels: int, channels: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.expand = Expand(in_channels, in_channels // 2, 2)
        self.fuse = nn.Linear(in_channels // 2 + channels, channels)
        self.blocks = nn.Sequential(*(TransformerBlock(channels, heads, ratio) for _ in range(2)))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Fuse (N, H/2, W/2, in_channels) with the skip (N, H, W, channels) into a map of the skip's shape."""
        x = self.expand(x).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return self.blocks(self.fuse(torch.cat((x, skip), dim=-1)))


class Head(nn.Module):
    """Four times the resolution, then a classifier of each position.

    The classifier works before the new positions move to their places, so that only logits are moved.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.expand = Expand(channels, channels, 4)
        self.classify = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, channels) to logits (N, C, 4H, 4W)."""
        return self.classify(self.expand(x)).permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


@MODELS.register_module()
class MISSFormer(BaseModule):
    """MISSFormer (Huang et al., IEEE TMI 2022, arXiv 2109.07162): full-resolution logits.

    Four encoder stages, the enhanced transformer context bridge over all of them, and a decoder that takes the
    bridge's deepest map and fuses the others into it. Every feed-forward is the enhanced Mix-FFN with its skip
    ("mix_skip" in the authors' code). Keys and values of every stage are reduced to the grid of the deepest one.

    35.45 M parameters. The authors' network holds 42.46 M, of which 7.01 M take no part in the output
    (:func:`~medseg_kd.models.weights.missformer.unused_weights`).

    As in the authors' code the linear layers and convolutions of decoder and head start from Xavier's uniform
    initialisation with zero biases, encoder and bridge from PyTorch's own; the attention scale is the usual one.

    Args:
        channels: Channels of the stages, multiples of the first.
        heads: Attention heads of the stages.
        depths: Blocks of the encoder's stages.

    Raises:
        UserError: Channels that cannot be cut into tokens or heads.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 1,
        channels: Sequence[int] = (64, 128, 320, 512),
        heads: Sequence[int] = (1, 2, 5, 8),
        depths: Sequence[int] = (2, 2, 2, 2),
        bridge_layers: int = 4,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.in_channels = in_channels
        stages = len(channels)
        if not stages == len(heads) == len(depths):
            raise UserError(
                f"MISSFormer: {stages} channels, {len(heads)} heads and {len(depths)} depths were given; expected one "
                "of each for every stage"
            )
        for width, parts in zip(channels, heads, strict=True):
            if width % channels[0] or width % parts or width % 2:
                raise UserError(
                    f"MISSFormer: a stage has {width} channels and {parts} heads; expected an even multiple of the "
                    f"first stage's {channels[0]} channels that the heads divide"
                )
        ratios = [2 ** (stages - 1 - stage) for stage in range(stages)]
        self.size_divisor = 4 * ratios[0]
        self.encoder = nn.ModuleList(
            EncoderStage(before, after, 2 if stage else 4, depths[stage], heads[stage], ratios[stage])
            for stage, (before, after) in enumerate(zip((in_channels, *channels), channels, strict=False))
        )
        self.feature_info = [
            dict(module=f"encoder.{stage}", channels=width, reduction=4 * 2**stage)
            for stage, width in enumerate(channels)
        ]
        self.bridge = nn.ModuleList(BridgeLayer(channels, ratios) for _ in range(bridge_layers))
        self.decoder = nn.ModuleList(
            UpBlock(channels[stage + 1], channels[stage], heads[stage], ratios[stage])
            for stage in reversed(range(stages - 1))
        )
        self.head = Head(channels[0], num_classes)
        # Earlier versions kept them under these names.
        self.obsolete_weights = {f"unused.{name.replace('.', '__')}" for name in unused_weights(depths, bridge_layers)}
        for layer in (*self.decoder.modules(), *self.head.modules()):
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W), height and width multiples of ``size_divisor``, to logits (N, C, H, W)."""
        check_input(self, x)
        maps = []
        for stage in self.encoder:
            x = stage(x)
            maps.append(x.permute(0, 2, 3, 1))
        shapes = [m.shape for m in maps]
        tokens = to_tokens(maps, maps[0].shape[-1])
        for layer in self.bridge:
            tokens = layer(tokens, shapes)
        *skips, x = to_maps(tokens, shapes)
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            x = block(x, skip)
        return self.head(x)
