"""ReviewKD: the pyramid of stages, fused from the deepest up."""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medseg_kd.distill.connectors import ABF
from medseg_kd.distill.distiller import Distiller
from medseg_kd.distill.losses.base import DistillLoss
from medseg_kd.distill.losses.pixels import nearest, pool
from medseg_kd.distill.methods.base import method, on_stages, stage_pairs
from medseg_kd.models.losses.gathering import count
from medseg_kd.registry import MODELS

_POOLS = (4, 2, 1)
_CELLS = [size**2 for size in _POOLS]
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

    def forward(self, student: Tensor, teacher: Tensor, label: Tensor | None = None) -> Tensor:
        """See :class:`DistillLoss`."""
        return self.of_pyramid([(student, teacher)], label)

    def of_pyramid(self, pairs: Sequence[tuple[Tensor, Tensor]], label: Tensor | None = None) -> Tensor:
        """Sum of the losses of several stages, (student, teacher) of each, in as few operations as those of one."""
        for student, teacher in pairs:
            self._check(student, teacher)
        dtype = functools.reduce(torch.promote_types, (each.dtype for pair in pairs for each in pair), torch.float32)
        students = [student.to(dtype) for student, _ in pairs]
        with torch.autocast(students[0].device.type, enabled=False):
            valid = self._valid(label, students)
            differences = [
                (student - teacher.detach()).masked_fill(nearest(~valid, student.shape[-2:])[:, None].bool(), 0)
                for student, (_, teacher) in zip(students, pairs, strict=True)
            ]
            # Norms map by map: one pass in each direction, and no sum long enough to lose digits.
            norms = torch.cat([torch.linalg.vector_norm(each, dim=(2, 3)) for each in differences], dim=1)
            cells = torch.cat((norms[..., None], _pools(differences)), dim=2)
            loss = (cells.square() * self._weights(valid, students)).sum()
            return loss if self.loss_weight == 1 else self.loss_weight * loss

    def _valid(self, label: Tensor | None, maps: Sequence[Tensor]) -> Tensor:
        """(N, H, W) pixels that take part, as large as the label, or as the maps."""
        if label is not None:
            return label.long() != self.ignore_index  # in uint8, -1 and 255 are one
        height, width = (max(each.shape[axis] for each in maps) for axis in (-2, -1))
        return maps[0].new_ones(len(maps[0]), height, width, dtype=torch.bool)

    @torch.no_grad()
    def _weights(self, valid: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Weights (N, channels of all maps, 1 + 21) of squared norms and of squared cells.

        A cell's mean is over its valid pixels, so its share of them divides it.
        """
        dtype, sizes = maps[0].dtype, list(dict.fromkeys(each.shape[-2:] for each in maps))
        places = [sizes.index(each.shape[-2:]) for each in maps]
        masks = [nearest(valid, size)[:, None].bool() for size in sizes]
        shares = _pools([mask.to(dtype) for mask in masks])
        counts = [torch.stack([mask.sum() for mask in masks])]
        counts += [each.count_nonzero(dim=(0, 2)) for each in shares.split(_CELLS, dim=2)]
        counted = count(torch.stack(counts, dim=1), self.training).to(dtype)
        divisors = torch._foreach_mul(
            [each for place in places for each in counted[place].unbind()],
            [each.shape[1] * factor for each in maps for factor in _factors(each.shape[-2])],
        )
        columns = [each.expand(cells) for each, cells in zip(divisors, [1, *_CELLS] * len(maps), strict=True)]
        # A cell without a valid pixel is 0, so that any finite weight will do.
        squared = nn.functional.pad(shares.clamp(min=1e-12).square(), (1, 0), value=1)
        squared = torch.stack([squared[:, place] for place in places], dim=1)
        weights = (squared * torch.cat(columns).view(len(maps), -1)).reciprocal().split(1, dim=1)
        return torch.cat([w.expand(-1, each.shape[1], -1) for w, each in zip(weights, maps, strict=True)], dim=1)


def _factors(height: int) -> list[float]:
    """What divides the whole map and each pool: the sum of all weights over their own; a pool left out halves none."""
    halved = [sum(larger < height for larger in _POOLS[:level]) for level in range(len(_POOLS) + 1)]
    there = [True, *(size < height for size in _POOLS)]
    whole = sum(0.5**times for times, counts in zip(halved, there, strict=True) if counts)
    return [whole * 2.0**times for times in halved]


def _pools(maps: Sequence[Tensor]) -> Tensor:
    """Adaptive average pools of maps (N, C, h, w), flattened: (N, channels of all, 21); 0 where a map is no larger."""
    nested = all(length % _POOLS[0] == 0 and length > _POOLS[0] for each in maps for length in each.shape[-2:])
    levels = []
    for size in _POOLS:
        pools = [
            pool(each, (size, size)) if size < each.shape[-2] else each.new_zeros(*each.shape[:2], size, size)
            for each in maps
        ]
        levels.append(torch.cat(pools, dim=1) if len(pools) > 1 else pools[0])
        if nested:  # the cells of the smaller pools are made of whole cells of this one
            maps = levels[-1:]
    return torch.cat([each.flatten(2) for each in levels], dim=2)


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
        residual, pairs = None, []
        for name in reversed(list(self.connectors)):
            target = self.teacher_recorders.recorders[name].get()
            feature = self.student_recorders.recorders[name].get()
            output, residual = self.connectors[name](feature, residual, target.shape[-2:])
            pairs.append((output, target))
        return {_LOSS: self.distill_losses[_LOSS].of_pyramid(pairs, label)}
