"""AttnFD: features refined by channel and spatial attention, in all stages."""

from typing import Any

from torch import Tensor, nn

from medseg_kd.distill.connectors import CBAMConnector, refined
from medseg_kd.distill.distiller import Distiller
from medseg_kd.distill.losses.base import DistillLoss
from medseg_kd.distill.losses.pixels import directions, masked_mean, pooled_alike, valid_pixels
from medseg_kd.distill.methods.base import method, on_stages, stage_pairs
from medseg_kd.registry import MODELS

_LOSS = "loss_attnfd"


@MODELS.register_module()
class AttnFDLoss(DistillLoss):
    """Attention-guided Feature Distillation for Semantic Segmentation (Mansourian et al., 2024), of a stage.

        loss = mean over images of || F_student / ||F_student|| - F_teacher / ||F_teacher|| ||^2

    F are the features refined by attention, all C * H * W entries of an image as one vector: the value is between 0
    and 4, whatever their size. The authors' code takes the norms over the whole batch and divides by its size once
    more, so that its value falls with the batch; of one image the two are equal. The larger map is average-pooled to
    the smaller.

    Args:
        loss_weight: 0.3: the authors' 2, which their code divides by its batch of 6.
    """

    def __init__(self, loss_weight: float = 0.3, ignore_index: int = 255) -> None:
        super().__init__(loss_weight, ignore_index)

    def compute(self, student: Tensor, teacher: Tensor, label: Tensor | None) -> Tensor:
        """(N, C, h, w) refined features of both; (N, H, W) labels."""
        student, teacher, valid = pooled_alike(student, teacher, label, self.ignore_index)
        units = (directions(each.masked_fill(~valid[:, None], 0).flatten(1)) for each in (student, teacher))
        distance = (next(units) - next(units)).square().sum(dim=1)
        return masked_mean(distance, valid.flatten(1).any(dim=1), self.training)


@method(AttnFDLoss)
class AttnFD(Distiller):
    """Attention-guided Feature Distillation (Mansourian et al., 2024) of all paired stages.

    The student's feature passes a CBAM (Woo et al., ECCV 2018) and a 1x1 convolution with batch norm, which are
    trained with it; the teacher's the same attention without parameters: its sums of average and maximum alone. That is
    what the authors' CBAM does in the mode that they call ``teacher``; their distiller never sets it, and refines the
    teacher's features by weights that nothing trains.

    Args:
        options: Those of :class:`AttnFDLoss`, whose values are summed over the stages. The authors take the backbone's
            last stage and two maps of DeepLab's head; stages are what every network has.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module, **options: Any) -> None:
        pairs = stage_pairs(student, teacher)
        connectors = {
            name: {"type": CBAMConnector, "in_channel": own["channels"], "out_channel": other["channels"]}
            for name, (own, other) in pairs.items()
        }
        losses = {_LOSS: {"type": AttnFDLoss, **options}}
        super().__init__(student, teacher, **on_stages(pairs), connectors=connectors, distill_losses=losses)

    def compute_distill_losses(self, label: Tensor | None = None) -> dict[str, Tensor]:
        """Refine and compare each stage."""
        loss, losses = self.distill_losses[_LOSS], []
        for name, connector in self.connectors.items():
            feature = self.student_recorders.recorders[name].get()
            target = self.teacher_recorders.recorders[name].get()
            valid = (valid_pixels(label, each, loss.ignore_index)[:, None] for each in (feature, target))
            losses.append(loss(connector(feature, next(valid)), refined(target, next(valid)), label))
        return {_LOSS: sum(losses[1:], losses[0])}
