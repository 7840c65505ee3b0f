"""KD: Hinton's distillation, pixel by pixel."""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import log_softmax

from medseg_kd.distill.distiller import ConfigurableDistiller
from medseg_kd.distill.losses.base import DistillLoss
from medseg_kd.distill.losses.pixels import masked_mean, to_larger, valid_pixels
from medseg_kd.distill.losses.standardization import standardized
from medseg_kd.distill.methods.base import method, on_logits
from medseg_kd.registry import MODELS


@MODELS.register_module()
class KDLoss(DistillLoss):
    """Distilling the Knowledge in a Neural Network (Hinton et al., 2015), on dense logits.

        loss = T^2 / M * sum over the M valid pixels of KL(p_teacher || p_student),  p = softmax over C of z / T

    Summed over classes, averaged over pixels: PyTorch's ``batchmean`` on a 4-D map would be H * W times larger, its
    ``mean`` C times smaller.

    Args:
        tau: Temperature T. 1, as in the segmentation code of CIRKD (Yang et al., CVPR 2022): at the 4 of classification
            the easy background, nearly every pixel, makes a term of ten times the student's own losses.
        loss_weight: 1: a pixel's KL has the scale of its cross-entropy, whatever the image's size.
        standardize: Standardise the logits first, see :class:`~medseg_kd.distill.methods.lskd.LSKDLoss`.
    """

    softmax_over = (1,)

    def __init__(
        self, tau: float = 1.0, loss_weight: float = 1.0, ignore_index: int = 255, standardize: bool = False
    ) -> None:
        super().__init__(loss_weight, ignore_index)
        self.tau, self.standardize = tau, standardize
        self.is_softmax = not standardize

    def compute(self, student: Tensor, teacher: Tensor, label: Tensor | None) -> Tensor:
        """(N, C, h, w) logits of both, the smaller resized to the larger; (N, H, W) labels."""
        student, teacher = to_larger(student, teacher)
        if self.standardize:
            student, teacher = standardized(student), standardized(teacher)
        log_s = log_softmax(student / self.tau, dim=1)
        log_t = log_softmax(teacher / self.tau, dim=1)
        kl = (log_t.exp() * (log_t - log_s)).sum(dim=1)
        return self.tau**2 * masked_mean(kl, valid_pixels(label, student, self.ignore_index), self.training)


@method(KDLoss)
class KD(ConfigurableDistiller):
    """Pixel-wise distillation of the logits; the options are those of :class:`KDLoss`."""

    def __init__(self, student: nn.Module, teacher: nn.Module, **options: Any) -> None:
        super().__init__(student, teacher, **on_logits("loss_kd", {"type": KDLoss, **options}, student, teacher))
