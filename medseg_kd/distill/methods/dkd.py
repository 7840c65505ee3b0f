"""DKD: decoupled distillation."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from medseg_kd.distill.distiller import ConfigurableDistiller
from medseg_kd.distill.losses.base import DistillLoss
from medseg_kd.distill.losses.pixels import masked_mean
from medseg_kd.distill.losses.standardization import standardized
from medseg_kd.distill.methods.base import method, on_logits
from medseg_kd.errors import UserError
from medseg_kd.models.resizing import resize
from medseg_kd.registry import MODELS


@MODELS.register_module()
class DKDLoss(DistillLoss):
    """Decoupled Knowledge Distillation (Zhao et al., CVPR 2022), on dense logits.

    With y the class of a pixel, T = ``tau`` and p = softmax over C of z / T:

        TCKD = KL of the two-way distributions (p_y, 1 - p_y)
        NCKD = KL of the softmax over the C - 1 other classes
        loss = T^2 * mean over valid pixels of (alpha * TCKD + beta * NCKD)

    The authors' code leaves z_y out of NCKD by subtracting 1000 from it; here it is left out exactly, so that large
    logits do no harm.

    The defaults are the authors' for ImageNet. Those for CIFAR (beta 8, T 4) give, averaged over pixels, a term far
    above cross-entropy and Dice: most pixels are easy background, where NCKD tells classes apart that are all wrong.

    Args:
        standardize: Standardise the logits first, see :class:`~medseg_kd.distill.methods.lskd.LSKDLoss`.
    """

    softmax_over = (1,)

    def __init__(
        self,
        tau: float = 1.0,
        alpha: float = 1.0,
        beta: float = 0.5,
        loss_weight: float = 1.0,
        ignore_index: int = 255,
        standardize: bool = False,
    ) -> None:
        super().__init__(loss_weight, ignore_index)
        self.tau, self.alpha, self.beta, self.standardize = tau, alpha, beta, standardize
        self.is_softmax = not standardize

    def compute(self, student: Tensor, teacher: Tensor, label: Tensor | None) -> Tensor:
        """(N, C, h, w) logits of both, resized to the (N, H, W) labels, which are needed."""
        if label is None:
            raise UserError("DKDLoss needs the labels: pass them as its third argument, label")
        if student.shape[1] < 2:
            raise UserError("DKDLoss needs at least two classes, background among them")
        label = label.long()
        valid = label != self.ignore_index
        target = label.masked_fill(~valid, 0)[:, None]
        student, teacher = resize(student, label.shape[-2:]), resize(teacher, label.shape[-2:])
        if self.standardize:
            student, teacher = standardized(student), standardized(teacher)
        yes_s, no_s, others_s = self._decouple(student, target)
        yes_t, no_t, others_t = self._decouple(teacher, target)
        tckd = yes_t.exp() * (yes_t - yes_s) + no_t.exp() * (no_t - no_s)
        nckd = (others_t.exp().scatter(1, target, 0) * (others_t - others_s)).sum(dim=1)
        return self.tau**2 * masked_mean(self.alpha * tckd + self.beta * nckd, valid, self.training)

    def _decouple(self, z: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log p_y and log(1 - p_y), (N, H, W), and the log-softmax over the others (N, C, H, W), void at the target."""
        z = z / self.tau
        over_all = z.logsumexp(dim=1, keepdim=True)
        over_others = z.scatter(1, target, -math.inf).logsumexp(dim=1, keepdim=True)
        yes = torch.gather(z, 1, target) - over_all
        return yes[:, 0], (over_others - over_all)[:, 0], z - over_others


@method(DKDLoss)
class DKD(ConfigurableDistiller):
    """Decoupled distillation of the logits, resized to the labels; the options are those of :class:`DKDLoss`."""

    def __init__(self, student: nn.Module, teacher: nn.Module, **options: Any) -> None:
        super().__init__(student, teacher, **on_logits("loss_dkd", {"type": DKDLoss, **options}, student, teacher))
