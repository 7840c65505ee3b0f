"""IFVD: how far each pixel's feature is from the prototype of its class."""

from typing import Any

import torch
from torch import Tensor, nn

from medseg_kd.distill.distiller import ConfigurableDistiller
from medseg_kd.distill.losses.base import DistillLoss
from medseg_kd.distill.losses.pixels import directions, masked_mean, nearest, pooled_alike
from medseg_kd.distill.methods.base import method, on_stage, stage_pair
from medseg_kd.errors import UserError
from medseg_kd.registry import MODELS

_LOSS = "loss_ifvd"


@MODELS.register_module()
class IFVDLoss(DistillLoss):
    """Intra-class Feature Variation Distillation (Wang et al., ECCV 2020).

        prototype of a class = mean of the features of its pixels, in each image
        v = cosine of a pixel's feature and the prototype of its class
        loss = mean over pixels of (v_student - v_teacher)^2

    Equals the authors' ``CriterionIFV``, but for ignored pixels, which count there as ones that are their own
    prototype. Labels are resized to the features, nearest. Channels may differ, without a connector; the larger map is
    average-pooled to the smaller. A prototype is of one image, as in their code: processes have nothing to exchange.

    Args:
        loss_weight: 200 as in the authors' code, which is for dense prediction: cosines that are 0.1 apart make a
            term of 2. A mean over pixels does not depend on the image's size.

    Attributes:
        num_classes: Labels from here on are in no class.
    """

    same_channels = False
    num_classes = 256

    def __init__(self, loss_weight: float = 200.0, ignore_index: int = 255) -> None:
        super().__init__(loss_weight, ignore_index)

    def compute(self, student: Tensor, teacher: Tensor, label: Tensor | None) -> Tensor:
        """(N, C_s, h, w) and (N, C_t, h, w) features; (N, H, W) labels, which are needed."""
        if label is None:
            raise UserError("IFVDLoss needs the labels: pass them as its third argument, label")
        student, teacher, valid = pooled_alike(student, teacher, label, self.ignore_index)
        label = nearest(label, student.shape[-2:]).long()
        label = label.masked_fill(~valid | (label == self.ignore_index), -1).flatten(1)
        members = label[:, None] == torch.arange(self.num_classes, device=label.device)[:, None]
        difference = _variation(student, members) - _variation(teacher, members)
        return masked_mean(difference.square(), members.any(dim=1), self.training)


def _variation(feature: Tensor, members: Tensor) -> Tensor:
    """Cosines (N, P) of the pixels of (N, C, h, w) with their prototypes; ``members`` (N, K, P) says who has which."""
    pixels, weights = feature.flatten(2), members.to(feature.dtype)
    prototypes = pixels @ weights.mT / weights.sum(dim=2).clamp(min=1)[:, None]
    return (directions(pixels) * (directions(prototypes) @ weights)).sum(dim=1)


@method(IFVDLoss)
class IFVD(ConfigurableDistiller):
    """Variation of the features inside each class, in a stage.

    Args:
        stage: Index into the paired stages, shallow to deep. The authors take the last features before the classifier;
            of the stages that every network names that is the deepest, -1.
        options: Those of :class:`IFVDLoss`.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module, stage: int = -1, **options: Any) -> None:
        pair = stage_pair(student, teacher, stage)
        super().__init__(student, teacher, **on_stage(_LOSS, {"type": IFVDLoss, **options}, pair))
        self.distill_losses[_LOSS].num_classes = getattr(student, "num_classes", None) or IFVDLoss.num_classes
