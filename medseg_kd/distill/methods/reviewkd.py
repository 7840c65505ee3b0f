"""ReviewKD on the pyramid of stages."""

from typing import Any

from torch import Tensor, nn

from medseg_kd.distill.connectors import ABF
from medseg_kd.distill.losses import HCLLoss
from medseg_kd.distill.methods.base import Method, compare, stage_pairs
from medseg_kd.distill.recorders import ModuleOutputs
from medseg_kd.registry import MODELS

_LOSS = "loss_reviewkd"


@MODELS.register_module()
class ReviewKD(Method):
    """Distilling Knowledge via Knowledge Review (Chen et al., CVPR 2021): ABF from the deepest stage up, HCL on each.

    Args:
        mid_channel: Width of the fusion. Published are 512 and 256, for classification; the cost, most of it in the
            3x3 convolutions to the teacher's channels, is in proportion. At 512x512 a step (student forward and
            backward, teacher forward) of U-Net-R50 -> U-Net-R18 has 1.07 times the operations with 64, the width of
            the student's first stage, 1.14 with 128, 1.29 with 256, 1.57 with 512.
        loss_weight: Of the sum over the stages; 1 as in the authors' ImageNet recipe. Squared errors of features do
            not depend on the image's size.
        ignore_index: Label of pixels that take no part.
    """

    def __init__(self, mid_channel: int = 64, loss_weight: float = 1.0, ignore_index: int = 255) -> None:
        super().__init__()
        self.mid_channel = mid_channel
        self.loss = {"type": HCLLoss, "loss_weight": loss_weight, "ignore_index": ignore_index}

    def recipe(self, student: nn.Module, teacher: nn.Module) -> dict[str, Any]:
        """Every stage against its partner, each through a fusion; the deepest has nothing below to fuse with."""
        pairs = stage_pairs(student, teacher)
        names = [f"stage{index}" for index in range(len(pairs))]
        fusions = {
            name: {
                "type": ABF,
                "in_channel": own["channels"],
                "mid_channel": self.mid_channel,
                "out_channel": other["channels"],
                "fuse": name != names[-1],
            }
            for name, (own, other) in zip(names, pairs, strict=True)
        }
        return {
            "student_recorders": {
                name: {"type": ModuleOutputs, "source": own["module"]}
                for name, (own, _) in zip(names, pairs, strict=True)
            },
            "teacher_recorders": {
                name: {"type": ModuleOutputs, "source": other["module"]}
                for name, (_, other) in zip(names, pairs, strict=True)
            },
            "connectors": fusions,
            "distill_losses": {_LOSS: self.loss},
            "loss_forward_mappings": {_LOSS: compare(names[0])},
        }

    def compute_distill_losses(self, label: Tensor | None = None) -> dict[str, Tensor]:
        """Walk from the deepest stage to the shallowest; see :meth:`ConfigurableDistiller.compute_distill_losses`."""
        residual: Tensor | None = None
        losses = []
        for name in reversed(list(self.connectors)):
            target = self.teacher_recorders.recorders[name].get()
            feature = self.student_recorders.recorders[name].get()
            output, residual = self.connectors[name](feature, residual, target.shape[-2:])
            losses.append(self.distill_losses[_LOSS](output, target, label))
        return {_LOSS: sum(losses[1:], losses[0])}
