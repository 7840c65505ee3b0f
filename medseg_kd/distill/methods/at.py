"""AT on all stages."""

from typing import Any

from torch import nn

from medseg_kd.distill.losses import ATLoss
from medseg_kd.distill.methods.base import Method, compare, stage_pairs
from medseg_kd.distill.recorders import ModuleOutputs
from medseg_kd.registry import MODELS


@MODELS.register_module()
class AT(Method):
    """Attention transfer between paired stages (Zagoruyko & Komodakis, ICLR 2017); see :class:`ATLoss`.

    Args:
        loss_weight: Of each stage. 10,000 is for 512x512 input and maps of 64x64: the squared distance of two unit
            vectors (0 to 2), divided by 4,096 pixels, comes to the scale of cross-entropy and Dice. The value falls
            as 1 / (H * W), so scale the weight with the number of pixels: about 350 at 96x96. (The authors' 1,000 is
            for 224x224 images, with maps from 56x56 to 7x7.)
        ignore_index: Label of pixels that take no part.
    """

    def __init__(self, loss_weight: float = 1e4, ignore_index: int = 255) -> None:
        super().__init__()
        self.loss = {"type": ATLoss, "loss_weight": loss_weight, "ignore_index": ignore_index}

    def recipe(self, student: nn.Module, teacher: nn.Module) -> dict[str, Any]:
        """Every stage against its partner."""
        pairs = {f"stage{index}": pair for index, pair in enumerate(stage_pairs(student, teacher))}
        return {
            "student_recorders": {n: {"type": ModuleOutputs, "source": own["module"]} for n, (own, _) in pairs.items()},
            "teacher_recorders": {n: {"type": ModuleOutputs, "source": its["module"]} for n, (_, its) in pairs.items()},
            "distill_losses": {f"loss_at_{name}": self.loss for name in pairs},
            "loss_forward_mappings": {f"loss_at_{name}": compare(name) for name in pairs},
        }
