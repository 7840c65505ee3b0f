"""CWD on logits or on a stage."""

from typing import Any

from torch import nn

from medseg_kd.distill.connectors import ConvConnector
from medseg_kd.distill.losses import CWDLoss
from medseg_kd.distill.methods.base import Method, compare, logits_recipe, stage_pairs
from medseg_kd.distill.recorders import ModuleOutputs
from medseg_kd.errors import UserError
from medseg_kd.registry import MODELS


@MODELS.register_module()
class CWD(Method):
    """Channel-wise distillation (Shu et al., ICCV 2021); see :class:`CWDLoss`.

    Args:
        tau: Temperature; 4 on logits as in the authors' segmentation code.
        loss_weight: 3 on logits as there; the softmax over pixels makes it independent of the image's size.
        stage: Index into the paired stages, shallow to deep (-1 is the deepest), to distil a feature instead of the
            logits, through a 1x1 convolution to the teacher's channels. The authors take tau 1 and weight 50 there.
        ignore_index: Label of pixels that take no part.
    """

    def __init__(
        self, tau: float = 4.0, loss_weight: float = 3.0, stage: int | None = None, ignore_index: int = 255
    ) -> None:
        super().__init__()
        self.loss = {"type": CWDLoss, "tau": tau, "loss_weight": loss_weight, "ignore_index": ignore_index}
        self.stage = stage

    def recipe(self, student: nn.Module, teacher: nn.Module) -> dict[str, Any]:
        """Logits against logits, or one stage against its partner."""
        if self.stage is None:
            return logits_recipe("loss_cwd", self.loss, student, teacher)
        pairs = stage_pairs(student, teacher)
        if not -len(pairs) <= self.stage < len(pairs):
            raise UserError(f"distiller.stage is {self.stage}, but student and teacher share {len(pairs)} stages")
        own, other = pairs[self.stage]
        widen = {"type": ConvConnector, "in_channel": own["channels"], "out_channel": other["channels"]}
        return {
            "student_recorders": {"stage": {"type": ModuleOutputs, "source": own["module"]}},
            "teacher_recorders": {"stage": {"type": ModuleOutputs, "source": other["module"]}},
            "connectors": {"stage": widen},
            "distill_losses": {"loss_cwd": self.loss},
            "loss_forward_mappings": {"loss_cwd": compare("stage", connector="stage")},
        }
