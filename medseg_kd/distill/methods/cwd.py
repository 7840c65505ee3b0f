"""CWD: channel-wise distillation, of logits or of a stage."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from medseg_kd.distill.connectors import ConvConnector
from medseg_kd.distill.distiller import ConfigurableDistiller
from medseg_kd.distill.losses.base import DistillLoss
from medseg_kd.distill.losses.pixels import masked_mean, to_larger, valid_pixels
from medseg_kd.distill.methods.base import method, on_logits, on_stage, stage_pair
from medseg_kd.registry import MODELS


@MODELS.register_module()
class CWDLoss(DistillLoss):
    """Channel-wise Knowledge Distillation for Dense Prediction (Shu et al., ICCV 2021).

        loss = T^2 / (N * C) * sum over n, c of KL(q_teacher || q_student),  q = softmax over H*W of z / T

    Equals the authors' ``CriterionCWD`` (channel norm, KL). Ignored pixels get weight 0 in q; an image that holds
    nothing else is not counted in N.

    Args:
        tau: Temperature T; 4 on logits as in the authors' segmentation code.
        loss_weight: 3 on logits as there; the softmax over pixels makes it independent of the image's size.
    """

    softmax_over = (2, 3)

    def __init__(self, tau: float = 4.0, loss_weight: float = 3.0, ignore_index: int = 255) -> None:
        super().__init__(loss_weight, ignore_index)
        self.tau = tau

    def compute(self, student: Tensor, teacher: Tensor, label: Tensor | None) -> Tensor:
        """(N, C, h, w) logits or features of both, the smaller resized to the larger; (N, H, W) labels."""
        student, teacher = to_larger(student, teacher)
        valid = valid_pixels(label, student, self.ignore_index).flatten(1)
        log_s, log_t = (self._log_softmax(z, valid) for z in (student, teacher))
        kl = (log_t.exp() * (log_t - log_s)).masked_fill(~valid[:, None], 0).sum(dim=2)
        return self.tau**2 * masked_mean(kl, valid.any(dim=1, keepdim=True), self.training)

    def _log_softmax(self, z: Tensor, valid: Tensor) -> Tensor:
        """Spatial log-softmax (N, C, H*W) over the valid (N, H*W) pixels."""
        lowest = torch.finfo(z.dtype).min  # -inf would give an image without valid pixels undefined values
        return log_softmax((z.flatten(2) / self.tau).masked_fill(~valid[:, None], lowest), dim=2)


@method(CWDLoss)
class CWD(ConfigurableDistiller):
    """Channel-wise distillation of the logits or of a stage.

    Args:
        stage: Index into the paired stages, shallow to deep (-1 is the deepest), to distil a feature instead of the
            logits, through a 1x1 convolution to the teacher's channels. The authors take tau 1 and weight 50 there.
        options: Those of :class:`CWDLoss`.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module, stage: int | None = None, **options: Any) -> None:
        loss = {"type": CWDLoss, **options}
        if stage is None:
            super().__init__(student, teacher, **on_logits("loss_cwd", loss, student, teacher))
            return
        own, other = stage_pair(student, teacher, stage)
        widen = {"type": ConvConnector, "in_channel": own["channels"], "out_channel": other["channels"]}
        super().__init__(student, teacher, **on_stage("loss_cwd", loss, (own, other), widen))
