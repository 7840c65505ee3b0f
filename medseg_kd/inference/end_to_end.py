"""A segmentor with all that comes before and after it as one module: stored values in, labels out."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medseg_kd.datasets.intensities import Stored, ZScore
from medseg_kd.datasets.spec import DataSpec
from medseg_kd.inference.spline_zoom import zoom_labels, zoom_matrix
from medseg_kd.models.padding import divisible_size


class EndToEnd(nn.Module):
    """Does what :class:`~medseg_kd.inference.Predictor` does to slices, without a branch that depends on their size.

    Args:
        segmentor: In eval mode, on the CPU.
        spec: What its images are.
        size: (height, width) that slices are resized to as when they are read, or None.
    """

    keeps_zero: Tensor
    numbers: Tensor

    def __init__(self, segmentor: Any, spec: DataSpec, size: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.segmentor, self.size = segmentor, size
        rules = [channel.intensity for channel in spec.channels] * (2 * spec.neighbours + 1)
        self.of_case = not all(rule.fixed for rule in rules)
        numbers = [(rule if rule.fixed else Stored()).numbers(np.zeros(1)) for rule in rules]
        self.register_buffer("numbers", torch.tensor(numbers))
        keeps_zero = [isinstance(rule, ZScore) and rule.nonzero for rule in rules]
        self.any_keeps_zero = any(keeps_zero)
        self.register_buffer("keeps_zero", torch.tensor(keeps_zero).view(-1, 1, 1))

    def forward(self, image: Tensor, numbers: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Labels (N, H, W) uint8 and the logits that they are decoded from.

        Args:
            image: (N, C, H, W) float32, with the neighbours of each slice.
            numbers: (C, 4) the numbers of the intensity rules, where they are those of a case.
        """
        low, high, shift, scale = (self.numbers if numbers is None else numbers).T[..., None, None].unbind()
        scaled = (torch.minimum(torch.maximum(image, low), high) - shift) / scale
        if self.any_keeps_zero:
            scaled = torch.where(self.keeps_zero & (image == 0), 0.0, scaled)
        height, width = image.shape[-2:]
        if self.size is None:
            logits = self._logits(scaled)
            return self.segmentor.decode(logits), logits
        logits = self._logits(zoom_matrix(height, self.size[0]) @ scaled @ zoom_matrix(width, self.size[1]).T)
        return zoom_labels(self.segmentor.decode(logits), height, width), logits

    def _logits(self, slices: Tensor) -> Tensor:
        """Logits at the size of the slices, which are resized for the network and padded to what it takes."""
        preprocessor = self.segmentor.data_preprocessor
        shape, size = slices.shape[-2:], getattr(preprocessor, "size", None)
        if size is not None:
            smooth = getattr(preprocessor, "antialias", True)
            slices = F.interpolate(slices, size, mode="bilinear", align_corners=False, antialias=smooth)
        divisor = self.segmentor.size_divisor
        height, width = slices.shape[-2:]
        if divisor > 1:
            rows, columns = divisible_size((height, width), divisor)
            slices = F.pad(slices, (0, columns - width, 0, rows - height))
        logits = self.segmentor(slices)
        logits = (logits[0] if isinstance(logits, tuple) else logits)[..., :height, :width]
        aligned = getattr(self.segmentor, "align_corners", False)
        return logits if size is None else F.interpolate(logits, shape, mode="bilinear", align_corners=aligned)
