"""MISSFormer with the names and layers of ZhifangDeng/MISSFormer, those that it never calls too, for RGB images."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RATIOS = (8, 4, 2, 1)


class Attention(nn.Module):
    """Of tokens (N, H * W, C) of a map (H, W) to those of the map that ``sr`` reduces."""

    def __init__(self, channels: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)
        if ratio > 1:
            self.sr = nn.Conv2d(channels, channels, ratio, ratio)
            self.norm = nn.LayerNorm(channels)

    def reduced(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        if not hasattr(self, "sr"):
            return x
        return self.norm(self.sr(x.mT.unflatten(2, size)).flatten(2).mT)

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        k, v = self.kv(self.reduced(x, size)).chunk(2, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.q(x), k, v))
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """``norm2`` and ``norm3`` are never called."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.dwconv = nn.Module()
        self.dwconv.dwconv = nn.Conv2d(4 * channels, 4 * channels, 3, padding=1, groups=4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(4 * channels) for _ in range(3))

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        x = self.fc1(x)
        return self.fc2(F.gelu(self.norm1(x + self.dwconv.dwconv(x.mT.unflatten(2, size)).flatten(2).mT)))


class Block(nn.Module):
    def __init__(self, channels: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = Attention(channels, heads, ratio)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = FeedForward(channels)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        x = x + self.attn(self.norm1(x), size)
        return x + self.mlp(self.norm2(x), size)


class ScaleReduce(nn.Module):
    """The maps of the stages but the deepest, reduced; the channels of a result are read as tokens of 64 anew."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.sr0, self.sr1, self.sr2 = (
            nn.Conv2d(width, width, ratio, ratio) for width, ratio in zip(channels, RATIOS[:3], strict=False)
        )
        self.norm = nn.LayerNorm(channels[0])

    def forward(self, maps: list[Tensor]) -> Tensor:
        convs, width = (self.sr0, self.sr1, self.sr2), self.norm.normalized_shape[0]
        tokens = [conv(x).reshape(len(x), width, -1).mT for conv, x in zip(convs, maps, strict=False)]
        return self.norm(torch.cat([*tokens, maps[3].permute(0, 2, 3, 1).reshape(len(maps[3]), -1, width)], 1))


class BridgeLayer(nn.Module):
    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.channels = channels
        self.norm1 = nn.LayerNorm(channels[0])
        self.attn = Attention(channels[0], 1, 1)
        self.attn.scale_reduce = ScaleReduce(channels)
        self.norm2 = nn.LayerNorm(channels[0])
        self.mixffn1, self.mixffn2, self.mixffn3, self.mixffn4 = (FeedForward(width) for width in channels)

    def forward(self, x: Tensor, sizes: list[tuple[int, int]]) -> Tensor:
        attn, normed = self.attn, self.norm1(x)
        context = attn.scale_reduce(split(normed, self.channels, sizes))
        k, v = attn.kv(context).chunk(2, dim=-1)
        weights = (attn.q(normed) @ k.mT / self.channels[0] ** 0.5).softmax(-1)
        x = x + attn.proj(weights @ v)
        mixers = (self.mixffn1, self.mixffn2, self.mixffn3, self.mixffn4)
        parts = zip(mixers, split(self.norm2(x), self.channels, sizes), sizes, strict=True)
        mixed = [mixer(part.flatten(2).mT, size).reshape(len(x), -1, self.channels[0]) for mixer, part, size in parts]
        return x + torch.cat(mixed, 1)


class LayerUp(nn.Module):
    """Each token becomes factor x factor; the map grows by that factor."""

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        width = channels if factor == 4 else channels // 2
        self.expand = nn.Linear(channels, factor**2 * width, bias=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        x = self.expand(x).unflatten(1, size).unflatten(3, (self.factor, self.factor, -1))
        return self.norm(x.transpose(2, 3).flatten(3, 4).flatten(1, 2).flatten(1, 2))


class DecoderLayer(nn.Module):
    """Without a skip it expands alone: its other layers are never called."""

    def __init__(self, deeper: int, channels: int, heads: int, ratio: int, num_classes: int | None) -> None:
        super().__init__()
        self.concat_linear = nn.Linear(deeper // 2 + channels, channels)
        self.layer_up = LayerUp(channels, 4 if num_classes else 2)
        self.last_layer = nn.Conv2d(channels, num_classes, 1) if num_classes else None
        self.layer_former_1 = Block(channels, heads, ratio)
        self.layer_former_2 = Block(channels, heads, ratio)

    def forward(self, x: Tensor, size: tuple[int, int], skip: Tensor | None = None) -> Tensor:
        if skip is not None:
            x = self.concat_linear(torch.cat([x, skip], -1))
            x = self.layer_former_2(self.layer_former_1(x, size), size)
        x = self.layer_up(x, size)
        return self.last_layer(x.mT.unflatten(2, (4 * size[0], 4 * size[1]))) if self.last_layer else x


class MISSFormer(nn.Module):
    """Maps (N, 3, H, W) to logits (N, num_classes, H, W)."""

    def __init__(self, num_classes: int, channels: Sequence[int], heads: Sequence[int]) -> None:
        super().__init__()
        self.channels = channels
        self.backbone, self.bridge = nn.Module(), nn.Module()
        for n, (before, width) in enumerate(zip((3, *channels), channels, strict=False), start=1):
            kernel, stride = (7, 4) if n == 1 else (3, 2)
            embed = nn.Module()
            embed.proj, embed.norm = nn.Conv2d(before, width, kernel, stride, kernel // 2), nn.LayerNorm(width)
            self.backbone.add_module(f"patch_embed{n}", embed)
            blocks = nn.ModuleList(Block(width, heads[n - 1], RATIOS[n - 1]) for _ in range(2))
            self.backbone.add_module(f"block{n}", blocks)
            self.backbone.add_module(f"norm{n}", nn.LayerNorm(width))
            self.bridge.add_module(f"bridge_layer{n}", BridgeLayer(channels))
        for n, (width, deeper) in enumerate(zip(channels, (*channels[1:], 2 * channels[3]), strict=True)):
            classes = None if n else num_classes
            self.add_module(f"decoder_{n}", DecoderLayer(deeper, width, heads[n], RATIOS[n], classes))

    def forward(self, x: Tensor) -> Tensor:
        tokens, sizes = [], []
        for n in range(1, 5):
            embed = getattr(self.backbone, f"patch_embed{n}")
            x = embed.proj(x)
            sizes.append(tuple(x.shape[-2:]))
            x = embed.norm(x.flatten(2).mT)
            for block in getattr(self.backbone, f"block{n}"):
                x = block(x, sizes[-1])
            x = getattr(self.backbone, f"norm{n}")(x)
            tokens.append(x.reshape(len(x), -1, self.channels[0]))
            x = x.mT.unflatten(2, sizes[-1])
        x = torch.cat(tokens, 1)
        for n in range(1, 5):
            x = getattr(self.bridge, f"bridge_layer{n}")(x, sizes)
        *skips, x = (part.flatten(2).mT for part in split(x, self.channels, sizes))
        x = self.decoder_3(x, sizes[3])
        for n in (2, 1, 0):
            x = getattr(self, f"decoder_{n}")(x, sizes[n], skips[n])
        return x


def split(tokens: Tensor, channels: Sequence[int], sizes: list[tuple[int, int]]) -> list[Tensor]:
    """Tokens (N, L, channels[0]) as the stages' maps (N, C, H, W)."""
    lengths = [h * w * width // channels[0] for (h, w), width in zip(sizes, channels, strict=True)]
    parts = zip(tokens.split(lengths, 1), channels, sizes, strict=True)
    return [part.reshape(len(part), -1, width).mT.unflatten(2, size) for part, width, size in parts]
