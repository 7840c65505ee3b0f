"""The Swin encoder of Swin-UNETR, written so that one graph serves every input size."""

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.blocks import MLPBlock, PatchEmbed
from monai.networks.layers import DropPath
from monai.networks.nets import swin_unetr as monai_swin
from torch import Tensor, nn

_HIDDEN = -100.0  # added to the attention of tokens that must not see each other; Swin's own value


class WindowAxis:
    """Windows of ``size`` tokens along an axis of ``length`` tokens, rolled by ``shift``.

    The axis is padded to whole windows. In Swin one of at most ``size`` tokens is a single window of its own length,
    which is not shifted. Here that is a matter of values, not of shapes or operations, so that one graph serves short
    and long axes: a short one is padded and rolled like any other, but its padding is hidden, nothing counts as wrapped
    around, and :meth:`tokens` tells where the roll has put its tokens. The padding of a long axis is seen, as in MONAI.

    Attributes:
        count: Number of windows.
        padded: Length with the padding.
    """

    def __init__(self, length: int, size: int, shift: int, device: torch.device) -> None:
        self.length, self.size, self.shift, self.device = length, size, shift, device
        self.count = (length + size - 1) // size
        self.padded = self.count * size

    def tokens(self) -> tuple[Tensor, Tensor]:
        """(size,) place of each token in its window, and False for the padding of a short axis."""
        token = torch.arange(self.size, device=self.device)
        short = token[-1] + 1 >= self.length
        place = torch.where(short, (token + self.shift) % self.size, token)
        return place, place < self.length

    def wrapped(self) -> Tensor:
        """(count, size) True for tokens that the roll brought from the other end of a long axis."""
        position = torch.arange(self.padded, device=self.device)
        return ((position >= self.padded - self.shift) & (position >= self.size)).view(self.count, self.size)


class WindowAttention(monai_swin.WindowAttention):
    """Multi-head attention inside windows of ``window_size`` squared tokens, moved by ``shift`` of them."""

    def __init__(
        self, channels: int, num_heads: int, window_size: int, shift: int, attn_drop_rate: float, drop_rate: float
    ) -> None:
        super().__init__(channels, num_heads, (window_size, window_size), True, attn_drop_rate, drop_rate)
        self.shift = shift
        self._layout: tuple[Any, tuple[Tensor, Tensor]] = (None, ())  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Map (N, h, w, C) to (N, h, w, C)."""
        batch, height, width, channels = x.shape
        side, heads, shift = self.window_size[0], self.num_heads, self.shift
        rows, columns = (WindowAxis(length, side, shift, x.device) for length in (height, width))
        x = F.pad(x, (0, 0, 0, columns.padded - width, 0, rows.padded - height))
        if shift:
            x = x.roll((-shift, -shift), (1, 2))
        qkv = self.qkv(x).view(batch, rows.count, side, columns.count, side, 3, heads, channels // heads)
        # The fused kernels take (batch, heads, n, d) and repeat along the batch what they add. Windows that share one
        # bias join the batch; shifted ones, with a mask each, join the heads.
        windows = rows.count * columns.count
        joined = (batch, windows * heads) if shift else (batch * windows, heads)
        index, hidden = self._layout_of(rows, columns)
        bias = self.relative_position_bias_table[index].permute(2, 0, 1) + hidden
        if shift:
            bias = bias.flatten(0, 1)
        q, k, v = (part.reshape(*joined, side**2, -1) for part in qkv.permute(5, 0, 1, 3, 6, 2, 4, 7))
        dropout = self.attn_drop.p if self.training else 0.0
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None], dropout_p=dropout)
        x = x.reshape(batch, rows.count, columns.count, heads, side, side, -1).permute(0, 1, 4, 2, 5, 3, 6)
        x = x.reshape(batch, rows.padded, columns.padded, channels)
        if shift:
            x = x.roll((shift, shift), (1, 2))
        return self.proj_drop(self.proj(x[:, :height, :width]))

    def _layout_of(self, rows: WindowAxis, columns: WindowAxis) -> tuple[Tensor, Tensor]:
        """What depends on the size alone, kept until another comes: in a graph it is part of it.

        Returns:
            (n, n) places in the table of biases for the n tokens of any window, and what is added to their attention,
            (n,), or (K, 1, n, n) for K windows that are shifted.
        """
        key = (rows.length, columns.length, rows.device)
        is_traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
        if is_traced or self._layout[0] != key:
            # What prediction leaves here, training can save for its backward pass.
            with nullcontext() if is_traced else torch.inference_mode(False):
                layout = self._find_layout(rows, columns)
            if is_traced:
                return layout
            self._layout = (key, layout)
        return self._layout[1]

    def _find_layout(self, rows: WindowAxis, columns: WindowAxis) -> tuple[Tensor, Tensor]:
        place, real = rows.tokens()
        place_across, real_across = columns.tokens()
        hidden = torch.where((real[:, None] & real_across).flatten(), 0.0, _HIDDEN)
        # MONAI numbers the tokens of a short window in its own rows and takes the positions of a whole one for them.
        number = (place[:, None] * real_across.sum() + place_across).flatten()
        index: Tensor = self.relative_position_index[number[:, None], number]  # type: ignore[index]
        return index, _shift_mask(rows, columns)[:, None] + hidden if self.shift else hidden


def _shift_mask(rows: WindowAxis, columns: WindowAxis) -> Tensor:
    """(K, n, n) for K windows: 0 where two tokens were neighbours before the roll, else -100."""
    region = 2 * rows.wrapped()[:, None, :, None].long() + columns.wrapped()[None, :, None, :]
    region = region.flatten(0, 1).flatten(1)
    return torch.where(region[:, :, None] == region[:, None, :], 0.0, _HIDDEN)


class SwinBlock(nn.Module):
    """Attention inside windows, which ``shifted`` moves by half of their side, then an MLP; each with a residual."""

    def __init__(
        self,
        channels: int,
        num_heads: int,
        window_size: int,
        shifted: bool,
        drop_rate: float,
        attn_drop_rate: float,
        drop_path_rate: float,
    ) -> None:
        super().__init__()
        shift = window_size // 2 if shifted else 0
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, num_heads, window_size, shift, attn_drop_rate, drop_rate)
        self.drop_path = DropPath(drop_path_rate)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = MLPBlock(channels, 4 * channels, drop_rate, dropout_mode="swin")

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, h, w, C) to (N, h, w, C)."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class StageMap(nn.LayerNorm):
    """Tokens normalised over their channels, without weights, as a map for the decoder."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, elementwise_affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, h, w, C) to a contiguous (N, C, h, w): the decoder's convolutions then share one memory format."""
        return super().forward(x).permute(0, 3, 1, 2).contiguous()


class SwinEncoder(nn.Module):
    """Swin Transformer (Liu et al., ICCV 2021) with the parameter names of MONAI's.

    MONAI's own reads the size in Python (masks, window sizes, padding), so that a graph of it serves one size. This one
    computes them inside the graph and attends through ``scaled_dot_product_attention``. Arguments are those of
    :class:`~medseg_kd.models.SwinUNETR`, in its order.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        depths: Sequence[int],
        num_heads: Sequence[int],
        window_size: int,
        drop_rate: float,
        attn_drop_rate: float,
        drop_path_rate: float,
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(2, in_channels, channels, norm_layer=None, spatial_dims=2)  # type: ignore[arg-type]
        self.pos_drop = nn.Dropout(drop_rate)
        total, stages = sum(depths), []
        drop_paths = (drop_path_rate * block / max(total - 1, 1) for block in range(total))
        for stage, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
            width = channels * 2**stage
            blocks = [
                SwinBlock(width, heads, window_size, block % 2 == 1, drop_rate, attn_drop_rate, next(drop_paths))
                for block in range(depth)
            ]
            merging = monai_swin.PatchMerging(width, spatial_dims=2)
            # MONAI keeps each of its four stages in a list of one.
            layers = nn.Sequential(OrderedDict(blocks=nn.Sequential(*blocks), downsample=merging))
            stages.append(nn.Sequential(layers))
        self.layers1, self.layers2, self.layers3, self.layers4 = stages
        self.maps = nn.ModuleList(StageMap(channels * 2**index) for index in range(len(depths) + 1))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (N, in_channels, H, W) to maps (N, C * 2**i, H / 2**(i + 1), W / 2**(i + 1)), i = 0 to 4."""
        x = self.pos_drop(self.patch_embed(x)).permute(0, 2, 3, 1)
        maps = [self.maps[0](x)]
        for layers, to_map in zip((self.layers1, self.layers2, self.layers3, self.layers4), self.maps[1:], strict=True):
            x = layers(x)
            maps.append(to_map(x))
        return maps
