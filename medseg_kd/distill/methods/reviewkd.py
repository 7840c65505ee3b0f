"""ReviewKD: the pyramid of stages, fused from the deepest up."""

from typing import Any

import torch
from torch import Tensor, nn

from medseg_kd.distill.connectors import ABF
from medseg_kd.distill.distiller import Distiller
from medseg_kd.distill.losses.base import DistillLoss
from medseg_kd.distill.losses.pixels import pool, valid_pixels
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

    def __init__(self, loss_weight: float = 1.0, ignore_index: int = 255) -> None:
        super().__init__(loss_weight, ignore_index)
        self._of_label: dict[Any, tuple[Tensor, ...]] = {}

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        label: Tensor | None = None,
        of_label: dict[Any, tuple[Tensor, ...]] | None = None,
    ) -> Tensor:
        """See :class:`DistillLoss`; ``of_label`` keeps what the next map of the same size needs of the same label."""
        self._of_label = {} if of_label is None else of_label
        return super().forward(student, teacher, label)

    def compute(self, student: Tensor, teacher: Tensor, label: Tensor | None) -> Tensor:
        """Features of both, (N, C, h, w) alike; (N, H, W) labels."""
        key = (student.shape[-2:], student.dtype)
        if key not in self._of_label:
            self._of_label[key] = self._weights(label, student)
        ignored, of_pixels, *of_cells = self._of_label[key]
        difference = (student - teacher).masked_fill(ignored, 0)
        # Norms map by map: one pass in each direction, and no sum long enough to lose digits.
        total = torch.linalg.vector_norm(difference, dim=(2, 3)).square().sum() * of_pixels
        if of_cells:
            total = total + (torch.cat(_pools(difference), dim=2).square() * of_cells[0]).sum()
        return total / student.shape[1]

    def _weights(self, label: Tensor | None, like: Tensor) -> tuple[Tensor, ...]:
        """What depends on the label and the size (h, w) alone.

        Returns:
            (N, 1, h, w) ignored pixels; the weight of a squared difference, and of the squared sums over the cells of
            all pools, (N, 1, cells): a cell's mean is over its valid pixels, so its share of them divides the sum.
        """
        valid = valid_pixels(label, like, self.ignore_index)[:, None]
        shares = _pools(valid.to(like.dtype))
        sum_of_weights = sum(0.5**level for level in range(len(shares) + 1))
        weights = (~valid, 1 / (count(valid.sum(), self.training).to(like.dtype) * sum_of_weights))
        if not shares:
            return weights
        counts = [
            (count((share > 0).sum(), self.training) * (2**level * sum_of_weights)).expand(1, 1, share.shape[2])
            for level, share in enumerate(shares, 1)
        ]
        cells = torch.cat(shares, dim=2)
        cells = cells.masked_fill(cells == 0, 1).square()
        return *weights, 1 / (cells * torch.cat(counts, dim=2).to(like.dtype))


def _pools(x: Tensor) -> list[Tensor]:
    """Adaptive average pools of (N, C, h, w), each flattened to (N, C, cells)."""
    nested, pools = all(length % _POOLS[0] == 0 for length in x.shape[-2:]), []
    for size in _POOLS:
        if size < x.shape[-2]:
            pools.append(pool(x, (size, size)))
            if nested:  # the cells of the smaller pools are made of whole cells of this one
                x = pools[-1]
    return [each.flatten(2) for each in pools]


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
        of_label: dict[Any, tuple[Tensor, ...]] = {}
        for name in reversed(list(self.connectors)):
            target = self.teacher_recorders.recorders[name].get()
            feature = self.student_recorders.recorders[name].get()
            output, residual = self.connectors[name](feature, residual, target.shape[-2:])
            losses.append(self.distill_losses[_LOSS](output, target, label, of_label))
        return {_LOSS: sum(losses[1:], losses[0])}
