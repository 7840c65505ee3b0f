"""KD on logits."""

from typing import Any

from torch import nn

from medseg_kd.distill.losses import KDLoss
from medseg_kd.distill.methods.base import Method, logits_recipe
from medseg_kd.registry import MODELS


@MODELS.register_module()
class KD(Method):
    """Pixel-wise distillation of the logits (Hinton et al., 2015); see :class:`KDLoss`.

    Args:
        tau: Temperature. 1, as in the segmentation code of CIRKD (Yang et al., CVPR 2022): at the 4 of classification
            the easy background, nearly every pixel, makes a term of ten times the student's own losses.
        loss_weight: 1: a pixel's KL has the scale of its cross-entropy, whatever the image's size.
        ignore_index: Label of pixels that take no part.
    """

    def __init__(self, tau: float = 1.0, loss_weight: float = 1.0, ignore_index: int = 255) -> None:
        super().__init__()
        self.loss = {"type": KDLoss, "tau": tau, "loss_weight": loss_weight, "ignore_index": ignore_index}

    def recipe(self, student: nn.Module, teacher: nn.Module) -> dict[str, Any]:
        """Logits against logits."""
        return logits_recipe("loss_kd", self.loss, student, teacher)
