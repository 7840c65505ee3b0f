"""The Swin encoder of Swin-UNETR, written so that one graph serves every input size."""

from collections import OrderedDict
from collections.abc import Sequence

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
    around, and ``place`` tells where the roll has put its tokens. The padding of a long axis is seen, as in MONAI.

    Attributes:
        count: Number of windows.
        padded: Length with the padding.
        place: (size,) place of each token in its window.
        real: (size,) False for the padding of a short axis.
        wrapped: (count, size) True for tokens that the roll brought from the other end of a long axis.
    """

    def __init__(self, length: int, size: int, shift: int, device: torch.device) -> None:
        self.count = (length + size - 1) // size
        self.padded = self.count * size
        token = torch.arange(size, device=device)
        short = token[-1] + 1 >= length
        self.place = torch.where(short, (token + shift) % size, token)
        self.real = self.place < length
        position = torch.arange(self.padded, device=device)
        self.wrapped = ((position >= self.padded - shift) & (position >= size)).view(self.count, size)


class WindowAttention(monai_swin.WindowAttention):
    """Multi-head attention inside windows of ``window_size`` squared tokens, moved by ``shift`` of them."""

    def __init__(
        self, channels: int, num_heads: int, window_size: int, shift: int, attn_drop_rate: float, drop_rate: float
    ) -> None:
        super().__init__(channels, num_heads, (window_size, window_size), True, attn_drop_rate, drop_rate)
        self.shift = shift

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
        windows, bias = rows.count * columns.count, self._bias(rows, columns)
        joined = (batch, windows * heads) if shift else (batch * windows, heads)
        if shift:
            bias = (bias + _shift_mask(rows, columns)[:, None]).flatten(0, 1)
        q, k, v = (part.reshape(*joined, side**2, -1) for part in qkv.permute(5, 0, 1, 3, 6, 2, 4, 7))
        dropout = self.attn_drop.p if self.training else 0.0
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None], dropout_p=dropout)
        x = x.reshape(batch, rows.count, columns.count, heads, side, side, -1).permute(0, 1, 4, 2, 5, 3, 6)
        x = x.reshape(batch, rows.padded, columns.padded, channels)
        if shift:
            x = x.roll((shift, shift), (1, 2))
        return self.proj_drop(self.proj(x[:, :height, :width]))

    def _bias(self, rows: WindowAxis, columns: WindowAxis) -> Tensor:
        """(heads, n, n): what is added to the attention of the n tokens of any window."""
        hidden = ~(rows.real[:, None] & columns.real).flatten()
        # MONAI numbers the tokens of a short window in its own rows and takes the positions of a whole one for them.
        number = (rows.place[:, None] * columns.real.sum() + columns.place).flatten()
        index: Tensor = self.relative_position_index[number[:, None], number]  # type: ignore[index]
        return self.relative_position_bias_table[index].permute(2, 0, 1) + torch.where(hidden, _HIDDEN, 0.0)


def _shift_mask(rows: WindowAxis, columns: WindowAxis) -> Tensor:
    """(K, n, n) for K windows: 0 where two tokens were neighbours before the roll, else -100."""
    region = 2 * rows.wrapped[:, None, :, None].long() + columns.wrapped[None, :, None, :]
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
