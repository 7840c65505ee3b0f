"""Networks of nnU-Net on the slices of a data set: seen as they were trained, their logits averaged."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medseg_kd.models.networks.nnunet import NnUNet
from medseg_kd.models.padding import divisible_size, pad_to
from medseg_kd.models.resizing import resize


@dataclass(frozen=True)
class View:
    """How a network sees the slices of a batch.

    Args:
        scales: Of each channel (low, high, factor, offset): clip(x, low, high) * factor + offset; empty: as they are.
        transposed: Its rows are their columns.
        flipped: Axes (-2, -1) that it sees backwards, after transposing.
        zoom: Its pixels in one of theirs, along rows and columns as they lie.
    """

    scales: tuple[tuple[float, float, float, float], ...] = ()
    transposed: bool = False
    flipped: tuple[int, ...] = ()
    zoom: tuple[float, float] = (1.0, 1.0)

    def of(self, x: Tensor) -> Tensor:
        """Slices (N, C, H, W) as the network sees them."""
        if self.scales:
            planes = zip(x.unbind(1), self.scales, strict=True)
            x = torch.stack([plane.clamp(low, high) * k + offset for plane, (low, high, k, offset) in planes], 1)
        size = tuple(max(1, round(side * zoom)) for side, zoom in zip(x.shape[-2:], self.zoom, strict=True))
        if size != tuple(x.shape[-2:]):
            x = F.interpolate(x, size, mode="bicubic", align_corners=False)
        return (x.transpose(-2, -1) if self.transposed else x).flip(self.flipped)

    def back(self, x: Tensor) -> Tensor:
        """Maps (N, C, h, w) of what it saw as the slices lie, at their own size."""
        x = x.flip(self.flipped)
        return x.transpose(-2, -1) if self.transposed else x


class Folds(nn.Module):
    """Mean of the logits of several networks of one architecture, of slices as they come from a data set.

    Attributes:
        folds: The networks.
        stages: What the stages of a single network gave, as the slices lie, for recorders.
        view: How they see the slices.
    """

    def __init__(self, folds: Sequence[NnUNet]) -> None:
        super().__init__()
        self.folds = nn.ModuleList(folds)
        self.size_divisor, self.feature_info = folds[0].size_divisor, folds[0].feature_info
        self.view = View()
        self.stages = nn.ModuleList()
        if len(folds) == 1:
            self.stages.extend(nn.Identity() for _ in self.feature_info)
            for stage, told in zip(self.stages, self.feature_info, strict=True):
                folds[0].get_submodule(told["module"]).register_forward_hook(partial(self._show, stage))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) in the intensities of the data set to logits (N, outputs, H, W)."""
        with torch.autocast(x.device.type, enabled=False):
            seen = self.view.of(x.float())
        height, width = seen.shape[-2:]
        padded = pad_to(seen, divisible_size((height, width), self.size_divisor), 0)
        return resize(self.view.back(self.logits(padded)[..., :height, :width]), x.shape[-2:])

    def logits(self, x: Tensor) -> Tensor:
        """Logits of what the networks see, (N, C, h, w), both multiples of their ``size_divisor``."""
        return sum(fold(x) for fold in self.folds) / len(self.folds)

    def _show(self, stage: nn.Module, module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
        stage(self.view.back(output))
