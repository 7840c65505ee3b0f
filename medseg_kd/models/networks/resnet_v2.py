"""The convolutional encoder of BiT and of the hybrid vision transformer: weight-standardised, group-normalised."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medseg_kd.models.norms import GroupNorm


class StdConv2d(nn.Conv2d):
    """Convolution without bias whose filters have mean 0 and variance 1 (Qiao et al., arXiv 1903.10520)."""

    def __init__(self, in_channels: int, channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__(in_channels, channels, kernel_size, stride, padding=kernel_size // 2, bias=False)
        self.fixed: Tensor | None
        self.register_buffer("fixed", None, persistent=False)

    @torch.no_grad()
    def fix(self, dtype: torch.dtype | None) -> None:
        """Standardise the filters once for all, cast to ``dtype``: for a network that is not trained any more."""
        self.fixed = self.standardised().to(dtype or self.weight.dtype)

    def standardised(self) -> Tensor:
        """The filters, each normalised over its input channels and its window."""
        return F.layer_norm(self.weight, self.weight.shape[1:], eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, channels, H/stride, W/stride)."""
        return self._conv_forward(x, self.standardised() if self.fixed is None else self.fixed, None)


class GreyStdConv2d(StdConv2d):
    """A convolution of RGB images that takes grey ones, (N, 1, H, W), as if the grey were repeated three times.

    The filters keep their three channels, as in a checkpoint, and are summed over them once they are standardised:
    the sum of standardised filters is not the standardised sum.
    """

    def __init__(self, channels: int, kernel_size: int, stride: int) -> None:
        super().__init__(3, channels, kernel_size, stride)

    def standardised(self) -> Tensor:
        """The filters, normalised and then summed over the input channels."""
        return super().standardised().sum(1, keepdim=True)


class Bottleneck(nn.Module):
    """Residual unit: 1x1, 3x3 (with the stride) and 1x1 convolution, each followed by a group norm.

    The ReLU follows the sum, as in the first ResNet, although the published code calls the unit pre-activated. Inside
    the unit there are a fourth of the output's channels.
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        middle = channels // 4
        self.conv1 = StdConv2d(in_channels, middle, 1)
        self.gn1 = GroupNorm(32, middle, eps=1e-6)
        self.conv2 = StdConv2d(middle, middle, 3, stride)
        self.gn2 = GroupNorm(32, middle, eps=1e-6)
        self.conv3 = StdConv2d(middle, channels, 1)
        self.gn3 = GroupNorm(32, channels, eps=1e-6)
        self.projects = stride != 1 or in_channels != channels
        if self.projects:
            self.conv_proj = StdConv2d(in_channels, channels, 1, stride)
            # One channel a group, with PyTorch's eps: so it is in the code that the weights come from.
            self.gn_proj = GroupNorm(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, channels, H/stride, W/stride)."""
        y = F.relu_(self.gn1(self.conv1(x)))
        y = F.relu_(self.gn2(self.conv2(y)))
        y = self.gn3(self.conv3(y))
        return F.relu_(y + (self.gn_proj(self.conv_proj(x)) if self.projects else x))


class ResNetV2(nn.Module):
    """ResNet-50 of BiT without its fourth stage (Kolesnikov et al., ECCV 2020), as TransUNet has it.

    Its pooling does not pad, so that ``block1`` works on H/4 - 1 rows and W/4 - 1 columns. ``block1_padded`` gives its
    output one row and one column of zeros at the end, to the size of a skip; ``block2`` takes it as it is.

    Args:
        in_channels: Channels of the image; those of the stem's filters too, but for 1 (:class:`GreyStdConv2d`).
        width: Channels of the stem.
        depths: Units of ``block1``, ``block2`` and ``block3``.
    """

    def __init__(self, in_channels: int, width: int, depths: tuple[int, int, int]) -> None:
        super().__init__()
        stem = GreyStdConv2d(width, 7, 2) if in_channels == 1 else StdConv2d(in_channels, width, 7, 2)
        self.root = nn.Sequential(OrderedDict(conv=stem, gn=GroupNorm(32, width, eps=1e-6), relu=nn.ReLU(inplace=True)))
        self.pool = nn.MaxPool2d(3, 2)
        self.block1 = _stage(width, 4 * width, depths[0], stride=1)
        self.block1_padded = nn.ZeroPad2d((0, 1, 0, 1))
        self.block2 = _stage(4 * width, 8 * width, depths[1], stride=2)
        self.block3 = _stage(8 * width, 16 * width, depths[2], stride=2)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Encode (N, in_channels, H, W), H and W multiples of 16.

        Returns:
            (N, 16 * width, H/16, W/16), and the skips: ``width``, ``4 * width`` and ``8 * width`` channels at a half, a
            fourth and an eighth of the input's size.
        """
        half = self.root(x)
        fourth = self.block1(self.pool(half))
        eighth = self.block2(fourth)
        return self.block3(eighth), [half, self.block1_padded(fourth), eighth]


def _stage(in_channels: int, channels: int, depth: int, stride: int) -> nn.Sequential:
    """Residual units ``unit1`` (with the stride) to ``unit<depth>``."""
    units = [Bottleneck(in_channels, channels, stride), *(Bottleneck(channels, channels) for _ in range(1, depth))]
    return nn.Sequential(OrderedDict((f"unit{number}", unit) for number, unit in enumerate(units, start=1)))
