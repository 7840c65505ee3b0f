"""Connectors: trained with the student, they bring its features to the shape of the teacher's."""

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.functional import interpolate

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


def _nearest(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Nearest resize of (N, C, h, w) to ``size``; nothing to do where it has that size."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    with torch.autocast(x.device.type, enabled=False):  # which would copy to float32 and back
        return interpolate(x, size=size, mode="nearest")
