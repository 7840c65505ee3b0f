"""Connectors: trained with the student, they bring its features to the shape of the teacher's."""

from collections.abc import Callable

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.functional import interpolate

from medseg_kd.errors import UserError
from medseg_kd.models.resizing import resize
from medseg_kd.registry import MODELS


@MODELS.register_module()
class ConvConnector(BaseModule):
    """A 1x1 convolution from the channels of the student's feature to those of the teacher's."""

    def __init__(self, in_channel: int, out_channel: int, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        self.conv = nn.Conv2d(in_channel, out_channel, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channel, H, W) to (N, out_channel, H, W)."""
        return self.conv(x)


@MODELS.register_module()
class ABF(BaseModule):
    """Attention-based fusion of Distilling Knowledge via Knowledge Review (Chen et al., CVPR 2021).

    From ``in_channel`` channels of the student through ``mid_channel``, the same at all levels, to ``out_channel`` of
    the teacher; ``fuse`` is False at the deepest level. Parameters are named as in the authors' code.
    """

    def __init__(self, in_channel: int, mid_channel: int, out_channel: int, fuse: bool) -> None:
        super().__init__()
        narrow = nn.Conv2d(in_channel, mid_channel, 1, bias=False)
        widen = nn.Conv2d(mid_channel, out_channel, 3, padding=1, bias=False)
        for convolution in (narrow, widen):
            nn.init.kaiming_uniform_(convolution.weight, a=1)
        self.conv1 = nn.Sequential(narrow, nn.BatchNorm2d(mid_channel))
        self.conv2 = nn.Sequential(widen, nn.BatchNorm2d(out_channel))
        self.att_conv = nn.Sequential(nn.Conv2d(2 * mid_channel, 2, 1), nn.Sigmoid()) if fuse else None

    def forward(self, x: Tensor, residual: Tensor | None, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Fuse a feature (N, in_channel, H, W) with what the level below handed up, (N, mid_channel, h, w) or None.

        Returns the output (N, out_channel, H', W'), of the teacher's ``size``, and the residual for the level above
        (N, mid_channel, H', W').
        """
        x = self.conv1(x)
        if self.att_conv is not None and residual is not None:
            residual = _nearest(residual, x.shape[-2:])
            own, below = self.att_conv(torch.cat((x, residual), dim=1)).split(1, dim=1)
            x = torch.addcmul(own * x, below, residual)
        x = _nearest(x, size)
        return self.conv2(x), x


@MODELS.register_module()
class MaskedGeneration(BaseModule):
    """Masks pixels of a feature and generates the teacher's from the rest: Masked Generative Distillation (ECCV 2022).

    A 1x1 convolution to the teacher's channels, where they differ; 3x3, ReLU, 3x3 on what the mask leaves. Parameters
    are named as in the authors' code.

    Args:
        in_channel: Channels of the student's feature.
        mid_channel: Channels between the two 3x3 convolutions.
        out_channel: Channels of the teacher's feature.
        mask_ratio: Share of the pixels that is masked, drawn anew for each batch.
    """

    def __init__(self, in_channel: int, mid_channel: int, out_channel: int, mask_ratio: float = 0.75) -> None:
        super().__init__()
        if not 0 <= mask_ratio < 1:
            raise UserError(f"mask_ratio is {mask_ratio}: expected a share of the pixels, from 0 to below 1")
        self.mask_ratio = mask_ratio
        self.align = nn.Identity() if in_channel == out_channel else nn.Conv2d(in_channel, out_channel, 1)
        self.generation = nn.Sequential(
            nn.Conv2d(out_channel, mid_channel, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(mid_channel, out_channel, 3, padding=1),
        )

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Map (N, in_channel, h, w) to (N, out_channel, H, W), the size of the mask (N, H, W) of valid pixels.

        Those that are not valid are masked too.
        """
        x = resize(self.align(x), valid.shape[-2:])
        kept = torch.rand_like(valid, dtype=torch.float32) <= 1 - self.mask_ratio
        return self.generation(x.masked_fill(~(kept & valid)[:, None], 0))


@MODELS.register_module()
class CBAMConnector(BaseModule):
    """CBAM (Woo et al., ECCV 2018), then a 1x1 convolution with batch norm: the connector of AttnFD.

    Args:
        in_channel: Channels of the student's feature.
        out_channel: Channels of the teacher's feature.
        reduction: Channels of the feature for each of the hidden layer of the channel attention.
    """

    def __init__(self, in_channel: int, out_channel: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(in_channel // reduction, 1)
        self.channel = nn.Sequential(nn.Linear(in_channel, hidden), nn.ReLU(), nn.Linear(hidden, in_channel))
        self.spatial = nn.Sequential(nn.Conv2d(2, 1, 7, padding=3, bias=False), nn.BatchNorm2d(1, momentum=0.01))
        widen = nn.Conv2d(in_channel, out_channel, 1, bias=False)
        nn.init.kaiming_normal_(widen.weight, mode="fan_out")
        self.widen = nn.Sequential(widen, nn.BatchNorm2d(out_channel))

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Map (N, in_channel, H, W) to (N, out_channel, H, W), with the mask (N, 1, H, W) of valid pixels."""
        return self.widen(refined(x, valid, self.channel, self.spatial))


def refined(
    x: Tensor, valid: Tensor, channel: Callable[[Tensor], Tensor] | None = None, spatial: nn.Module | None = None
) -> Tensor:
    """A feature (N, C, H, W) times its channel attention, then times its spatial attention, as in CBAM.

        channel attention = sigmoid(channel(mean over H, W) + channel(maximum over H, W))
        spatial attention = sigmoid(spatial((maximum over C, mean over C)))

    Args:
        x: The feature.
        valid: Mask (N, 1, H, W) of the pixels that take part; the others are 0.
        channel: Maps (N, C) to (N, C); without it the two are added as they are.
        spatial: Maps (N, 2, H, W) to (N, 1, H, W); without it the two are added.
    """
    x = x.masked_fill(~valid, 0)
    mean = x.sum(dim=(2, 3)) / valid.sum(dim=(2, 3)).clamp(min=1)
    largest = x.masked_fill(~valid, torch.finfo(x.dtype).min).amax(dim=(2, 3))
    largest = largest.masked_fill(~valid.flatten(1).any(dim=1, keepdim=True), 0)
    weights = mean + largest if channel is None else channel(mean) + channel(largest)
    x = x * weights.sigmoid()[:, :, None, None]
    maps = torch.cat((x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)), dim=1)
    return x * (maps.sum(dim=1, keepdim=True) if spatial is None else spatial(maps)).sigmoid()


def _nearest(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Nearest resize of (N, C, h, w) to ``size``; nothing to do where it has that size."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    with torch.autocast(x.device.type, enabled=False):  # which would copy to float32 and back
        return interpolate(x, size=size, mode="nearest")
