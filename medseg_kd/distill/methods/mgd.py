"""MGD: the teacher's feature, generated from a student's with most of its pixels masked."""

from typing import Any

from torch import Tensor, nn

from medseg_kd.distill.connectors import MaskedGeneration
from medseg_kd.distill.distiller import Distiller
from medseg_kd.distill.losses.base import DistillLoss
from medseg_kd.distill.losses.pixels import masked_mean, valid_pixels
from medseg_kd.distill.methods.base import method, on_stages, stage_pair
from medseg_kd.registry import MODELS

_LOSS = "loss_mgd"


@MODELS.register_module()
class MGDLoss(DistillLoss):
    """Mean squared error of a generated feature, of Masked Generative Distillation (Yang et al., ECCV 2022).

        loss = mean over pixels and channels of (generated - teacher)^2

    The authors sum over all C * H * W entries and weigh by 2e-5, which changes with the size of the maps: at 64x64
    with 2,048 channels, their 512x512 recipe, it is this mean times 168.

    Args:
        loss_weight: 1 as of :class:`HCLLoss`, the same error of the same features. The authors' 168 makes a term that
            is far above cross-entropy and Dice.
    """

    same_size = True

    def compute(self, student: Tensor, teacher: Tensor, label: Tensor | None) -> Tensor:
        """Features of both, (N, C, h, w) alike; (N, H, W) labels."""
        error = (student - teacher).square().mean(dim=1)
        return masked_mean(error, valid_pixels(label, student, self.ignore_index), self.training)


@method(MGDLoss)
class MGD(Distiller):
    """Masked Generative Distillation (Yang et al., ECCV 2022) of a stage.

    Args:
        stage: Index into the paired stages, shallow to deep; -1, the deepest, as in the authors' segmentation code.
        mask_ratio: Share of the pixels that are masked, their 0.75 (lambda).
        mid_channel: Width between the two 3x3 convolutions that generate. Published is the teacher's own; with the
            2,048 channels of a ResNet-50 that is 300 billion multiplications for each 512x512 slice, many times the
            student. 64, as of :class:`ReviewKD`, costs a 32nd.
        options: Those of :class:`MGDLoss`.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        stage: int = -1,
        mask_ratio: float = 0.75,
        mid_channel: int = 64,
        **options: Any,
    ) -> None:
        own, other = stage_pair(student, teacher, stage)
        generation = {
            "type": MaskedGeneration,
            "in_channel": own["channels"],
            "mid_channel": mid_channel,
            "out_channel": other["channels"],
            "mask_ratio": mask_ratio,
        }
        super().__init__(
            student,
            teacher,
            **on_stages({"stage": (own, other)}),
            connectors={"stage": generation},
            distill_losses={_LOSS: {"type": MGDLoss, **options}},
        )

    def compute_distill_losses(self, label: Tensor | None = None) -> dict[str, Tensor]:
        """Generate and compare."""
        feature, target = (
            recorders.recorders["stage"].get() for recorders in (self.student_recorders, self.teacher_recorders)
        )
        loss = self.distill_losses[_LOSS]
        generated = self.connectors["stage"](feature, valid_pixels(label, target, loss.ignore_index))
        return {_LOSS: loss(generated, target, label)}
