"""DIST on logits."""

from typing import Any

from torch import nn

from medseg_kd.distill.losses import DISTLoss
from medseg_kd.distill.methods.base import Method, logits_recipe
from medseg_kd.registry import MODELS


@MODELS.register_module()
class DIST(Method):
    """Correlation of the predictions (Huang et al., NeurIPS 2022); see :class:`DISTLoss`.

    The defaults are those of the authors' segmentation code. Both terms lie in [0, 2], whatever the image's size.

    Args:
        beta: Weight of the relation between classes within a pixel.
        gamma: Weight of the relation between pixels within a class.
        tau: Temperature.
        min_teacher_prob: Leaves classes out that the teacher sees nowhere in the batch; 0 keeps all, as published.
        loss_weight: Multiplies both.
        ignore_index: Label of pixels that take no part.
    """

    def __init__(
        self,
        beta: float = 1.0,
        gamma: float = 1.0,
        tau: float = 1.0,
        min_teacher_prob: float = 0.0,
        loss_weight: float = 1.0,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        self.loss = {
            "type": DISTLoss,
            "beta": beta,
            "gamma": gamma,
            "tau": tau,
            "min_teacher_prob": min_teacher_prob,
            "loss_weight": loss_weight,
            "ignore_index": ignore_index,
        }

    def recipe(self, student: nn.Module, teacher: nn.Module) -> dict[str, Any]:
        """Logits against logits."""
        return logits_recipe("loss_dist", self.loss, student, teacher)
