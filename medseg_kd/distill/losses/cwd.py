"""Channel-wise distillation."""

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from medseg_kd.distill.losses.base import DistillLoss
from medseg_kd.distill.losses.pixels import masked_mean, to_larger, valid_pixels
from medseg_kd.registry import MODELS


@MODELS.register_module()
class CWDLoss(DistillLoss):
    """Channel-wise Knowledge Distillation for Dense Prediction (Shu et al., ICCV 2021).

        loss = T^2 / (N * C) * sum over n, c of KL(q_teacher || q_student),  q = softmax over H*W of z / T

    Equals the authors' ``CriterionCWD`` (channel norm, KL). Ignored pixels get weight 0 in q; an image that holds
    nothing else is not counted in N.

    Args:
        tau: Temperature T.
        loss_weight: Multiplies the result.
        ignore_index: Label of pixels that take no part.
    """

    softmax_over = (2, 3)

    def __init__(self, tau: float = 4.0, loss_weight: float = 1.0, ignore_index: int = 255) -> None:
        super().__init__(loss_weight, ignore_index)
        self.tau = tau

    def compute(self, student: Tensor, teacher: Tensor, label: Tensor | None) -> Tensor:
        """(N, C, h, w) logits or features of both, the smaller resized to the larger; (N, H, W) labels."""
        student, teacher = to_larger(student, teacher)
        valid = valid_pixels(label, student, self.ignore_index).flatten(1)
        log_s, log_t = (self._log_softmax(z, valid) for z in (student, teacher))
        kl = (log_t.exp() * (log_t - log_s)).masked_fill(~valid[:, None], 0).sum(dim=2)
        return self.tau**2 * masked_mean(kl, valid.any(dim=1, keepdim=True))

    def _log_softmax(self, z: Tensor, valid: Tensor) -> Tensor:
        """Spatial log-softmax (N, C, H*W) over the valid (N, H*W) pixels.

        The most negative number stands for -inf, which would give an image without valid pixels undefined values.
        """
        lowest = torch.finfo(z.dtype).min
        return log_softmax((z.flatten(2) / self.tau).masked_fill(~valid[:, None], lowest), dim=2)
