"""DKD on logits."""

from typing import Any

from torch import nn

from medseg_kd.distill.losses import DKDLoss
from medseg_kd.distill.methods.base import Method, logits_recipe
from medseg_kd.registry import MODELS


@MODELS.register_module()
class DKD(Method):
    """Decoupled distillation of the logits (Zhao et al., CVPR 2022); see :class:`DKDLoss`.

    The defaults are the authors' for ImageNet. Those for CIFAR (beta 8, T 4) give, averaged over pixels, a term far
    above cross-entropy and Dice: most pixels are easy background, where NCKD tells classes apart that are all wrong.

    Args:
        tau: Temperature.
        alpha: Weight of the target-class term.
        beta: Weight of the term of the other classes.
        loss_weight: Multiplies both.
        ignore_index: Label of pixels that take no part.
    """

    def __init__(
        self,
        tau: float = 1.0,
        alpha: float = 1.0,
        beta: float = 0.5,
        loss_weight: float = 1.0,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        self.loss = {
            "type": DKDLoss,
            "tau": tau,
            "alpha": alpha,
            "beta": beta,
            "loss_weight": loss_weight,
            "ignore_index": ignore_index,
        }

    def recipe(self, student: nn.Module, teacher: nn.Module) -> dict[str, Any]:
        """Logits against logits, both resized to the labels."""
        return logits_recipe("loss_dkd", self.loss, student, teacher)
