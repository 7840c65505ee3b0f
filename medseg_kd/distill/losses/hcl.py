"""Hierarchical context loss, the loss of ReviewKD."""

import torch
from torch import Tensor

from medseg_kd.distill.losses.base import DistillLoss
from medseg_kd.distill.losses.pixels import masked_mean, pool, valid_pixels
from medseg_kd.registry import MODELS

_POOLS = (4, 2, 1)


@MODELS.register_module()
class HCLLoss(DistillLoss):
    """Hierarchical context loss of Distilling Knowledge via Knowledge Review (Chen et al., CVPR 2021).

    Mean squared error of the full maps with weight 1, then of their adaptive average pools to 4, 2, 1 with weights
    1/2, 1/4, 1/8, divided by the sum of the weights. A pool that is not smaller than the map's height is skipped and
    halves no weight.

    Args:
        loss_weight: Multiplies the result.
        ignore_index: Label of pixels that take no part.
    """

    same_size = True

    def compute(self, student: Tensor, teacher: Tensor, label: Tensor | None) -> Tensor:
        """Features of both, (N, C, h, w) alike; (N, H, W) labels."""
        valid = valid_pixels(label, student, self.ignore_index)
        difference = (student - teacher).masked_fill(~valid[:, None], 0)
        # Norms map by map: one pass in each direction, and no sum long enough to lose digits.
        squares = torch.linalg.vector_norm(difference, dim=(2, 3)).square().sum()
        total = squares / (valid.sum() * student.shape[1]).clamp(min=1)
        weight = weights = 1.0
        pooled, share = difference, valid[:, None].to(student.dtype)
        nested = all(length % _POOLS[0] == 0 for length in student.shape[-2:])
        for size in _POOLS:
            if size >= student.shape[-2]:
                continue
            weight /= 2
            weights += weight
            means, cells = (pool(each, (size, size)) for each in (pooled, share))
            if nested:  # the cells of the smaller pools are made of whole cells of this one
                pooled, share = means, cells
            means = means / cells.masked_fill(cells == 0, 1)
            total = total + weight * masked_mean(means.square(), cells > 0)
        return total / weights
