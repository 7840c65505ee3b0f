"""DIST: distillation by correlation."""

import math
from typing import Any

import torch
from mmengine.dist import get_world_size
from torch import Tensor, nn
from torch.linalg import vector_norm

from medseg_kd.distill.distiller import ConfigurableDistiller
from medseg_kd.distill.losses.base import DistillLoss
from medseg_kd.distill.losses.pixels import masked_mean, to_larger, valid_pixels
from medseg_kd.distill.methods.base import method, on_logits
from medseg_kd.models.losses.gathering import count, reduced, sum_over_processes
from medseg_kd.registry import MODELS

_EPS = 1e-8
_ROUNDING = 2


@MODELS.register_module()
class DISTLoss(DistillLoss):
    """Knowledge Distillation from a Stronger Teacher (Huang et al., NeurIPS 2022), on dense logits.

    p = softmax over C of z / tau, seen as a matrix of N*H*W rows (pixels) and C columns (classes):

        rho(a, b) = centred dot product / (||a|| ||b|| + 1e-8)
        loss = tau^2 * (beta * (1 - mean over pixels of rho(row_s, row_t))
                        + gamma * (1 - mean over classes of rho(column_s, column_t)))

    Columns are correlated over the pixels of the whole batch together, as in the authors' segmentation code; in
    training with several processes that is the batch of all of them. A class to which the teacher gives almost no
    probability anywhere (an absent organ) costs gamma / C by the epsilon alone and pulls with almost no gradient;
    ``min_teacher_prob`` leaves it out. The defaults are those of that code; both terms lie in [0, 2], whatever the
    image's size.

    Args:
        min_teacher_prob: Classes whose largest teacher probability in the batch is below this are left out of the
            mean over classes. 0 keeps all, as published.
    """

    softmax_over = (1,)

    def __init__(
        self,
        beta: float = 1.0,
        gamma: float = 1.0,
        tau: float = 1.0,
        min_teacher_prob: float = 0.0,
        loss_weight: float = 1.0,
        ignore_index: int = 255,
    ) -> None:
        super().__init__(loss_weight, ignore_index)
        self.beta, self.gamma, self.tau, self.min_teacher_prob = beta, gamma, tau, min_teacher_prob

    def compute(self, student: Tensor, teacher: Tensor, label: Tensor | None) -> Tensor:
        """(N, C, h, w) logits of both, the smaller resized to the larger; (N, H, W) labels."""
        student, teacher = to_larger(student, teacher)
        valid = valid_pixels(label, student, self.ignore_index).flatten()
        p_s, p_t = ((z.movedim(1, -1).flatten(0, 2) / self.tau).softmax(dim=1) for z in (student, teacher))
        row_s, row_t = (p - p.mean(dim=1, keepdim=True) for p in (p_s, p_t))
        rows = 1 - _correlation(row_s, row_t, 1 / p_s.shape[1], dim=1)
        together = self.training and get_world_size() > 1
        mean_s, mean_t = (_mean_of_columns(p, valid, together) for p in (p_s, p_t))
        column_s, column_t = ((p - m).masked_fill(~valid[:, None], 0) for p, m in ((p_s, mean_s), (p_t, mean_t)))
        columns = 1 - _correlation(column_s, column_t, mean_s.detach(), dim=0, together=together)
        # -1 in a batch without a valid pixel, where no class is kept.
        largest = p_t.masked_fill(~valid[:, None], -1).amax(dim=0)
        kept = (reduced(largest, largest=True) if together else largest) >= self.min_teacher_prob
        return self.tau**2 * (
            self.beta * masked_mean(rows, valid, self.training) + self.gamma * masked_mean(columns, kept)
        )


def _mean_of_columns(p: Tensor, valid: Tensor, together: bool) -> Tensor:
    """Means (C,) of the columns of (M, C) over the rows that the (M,) mask holds, of all processes together."""
    # In float64: an error that all rows share counts M times, and would be as large as a rare class.
    total = p.masked_fill(~valid[:, None], 0).sum(dim=0, dtype=torch.float64)
    if together:  # without a gradient: what is centred by the mean sums up to 0, whatever the mean does
        total = reduced(total) / get_world_size()
    return (total / count(valid.sum(), together)).to(p.dtype)


def _correlation(a: Tensor, b: Tensor, mean: Tensor | float, dim: int, together: bool = False) -> Tensor:
    """rho along ``dim`` of two centred matrices, which with ``together`` go on in the other processes."""
    product, norm, other = (a * b).sum(dim), vector_norm(a, dim=dim), vector_norm(b, dim=dim)
    length = a.shape[dim]
    if together:
        sums = sum_over_processes(torch.stack((product, norm.square(), other.square())), together)
        product, (norm, other) = sums[0], sums[1:].clamp(min=torch.finfo(a.dtype).tiny).sqrt()
        length *= get_world_size()
    # Where a is constant to rounding, measured by the mean that was taken from it, rho is 0 and has no gradient: that
    # of the formula is about 1e8 there, of noise.
    noise = _ROUNDING * torch.finfo(a.dtype).eps * math.sqrt(length) * mean
    return (product / (norm * other + _EPS)).masked_fill(norm <= noise, 0)


@method(DISTLoss)
class DIST(ConfigurableDistiller):
    """Correlation of the predictions; the options are those of :class:`DISTLoss`."""

    def __init__(self, student: nn.Module, teacher: nn.Module, **options: Any) -> None:
        super().__init__(student, teacher, **on_logits("loss_dist", {"type": DISTLoss, **options}, student, teacher))
