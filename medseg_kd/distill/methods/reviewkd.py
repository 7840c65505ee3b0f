"""ReviewKD: the pyramid of stages, fused from the deepest up."""

from typing import Any

import torch
from torch import Tensor, nn

from medseg_kd.distill.connectors import ABF
from medseg_kd.distill.distiller import Distiller
from medseg_kd.distill.losses.base import DistillLoss
from medseg_kd.distill.losses.pixels import masked_mean, pool, valid_pixels
from medseg_kd.distill.methods.base import method, on_stages, stage_pairs
from medseg_kd.models.losses.gathering import count
from medseg_kd.registry import MODELS

_POOLS = (4, 2, 1)
_LOSS = "loss_reviewkd"


@MODELS.register_module()
class HCLLoss(DistillLoss):
    """Hierarchical context loss of Distilling Knowledge via Knowledge Review (Chen et al., CVPR 2021).

    Mean squared error of the full maps with weight 1, then of their adaptive average pools to 4, 2, 1 with weights
    1/2, 1/4, 1/8, divided by the sum of the weights. A pool that is not smaller than the map's height is skipped and
    halves no weight.

    Args:
        loss_weight: 1 as in the authors' ImageNet recipe. Squared errors of features do not depend on the image's size.
    """

    same_size = True

    def compute(self, student: Tensor, teacher: Tensor, label: Tensor | None) -> Tensor:
        """Features of both, (N, C, h, w) alike; (N, H, W) labels."""
        valid = valid_pixels(label, student, self.ignore_index)
        difference = (student - teacher).masked_fill(~valid[:, None], 0)
        # Norms map by map: one pass in each direction, and no sum long enough to lose digits.
        squares = torch.linalg.vector_norm(difference, dim=(2, 3)).square().sum()
        total = squares / count(valid.sum() * student.shape[1], self.training)
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
            total = total + weight * masked_mean(means.square(), cells > 0, self.training)
        return total / weights


@method(HCLLoss)
class ReviewKD(Distiller):
    """Distilling Knowledge via Knowledge Review (Chen et al., CVPR 2021): ABF from the deepest stage up, HCL on each.

    Args:
        mid_channel: Width of the fusion. Published are 512 and 256, for classification; the cost, most of it in the
            3x3 convolutions to the teacher's channels, is in proportion. At 512x512 a step (student forward and
            backward, teacher forward) of U-Net-R50 -> U-Net-R18 has 1.07 times the operations with 64, the width of
            the student's first stage, 1.14 with 128, 1.29 with 256, 1.57 with 512.
        options: Those of :class:`HCLLoss`, whose values are summed over the stages.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module, mid_channel: int = 64, **options: Any) -> None:
        pairs = stage_pairs(student, teacher)
        deepest = list(pairs)[-1]
        fusions = {
            name: {
                "type": ABF,
                "in_channel": own["channels"],
                "mid_channel": mid_channel,
                "out_channel": other["channels"],
                "fuse": name != deepest,  # it has nothing below
            }
            for name, (own, other) in pairs.items()
        }
        losses = {_LOSS: {"type": HCLLoss, **options}}
        super().__init__(student, teacher, **on_stages(pairs), connectors=fusions, distill_losses=losses)

    def compute_distill_losses(self, label: Tensor | None = None) -> dict[str, Tensor]:
        """Walk from the deepest stage to the shallowest."""
        residual, losses = None, []
        for name in reversed(list(self.connectors)):
            target = self.teacher_recorders.recorders[name].get()
            feature = self.student_recorders.recorders[name].get()
            output, residual = self.connectors[name](feature, residual, target.shape[-2:])
            losses.append(self.distill_losses[_LOSS](output, target, label))
        return {_LOSS: sum(losses[1:], losses[0])}
