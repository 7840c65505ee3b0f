"""What all distillation losses share."""

import torch
from torch import Tensor, nn

from medseg_kd.distill.shapes import ShapeError


class DistillLoss(nn.Module):
    """Base of the losses: called as ``loss(student, teacher, label=None)``, it returns one scalar.

    The teacher is detached, and the result is multiplied by ``loss_weight``. Everything is computed in float32 or
    better, whatever autocast says. Where ``label`` is given, pixels that hold ``ignore_index`` take no part, in value
    and in gradient (no published code does this; it keeps padding from being distilled). A batch without a valid pixel
    gives a zero that is connected to the graph.

    Attributes:
        same_channels: The two maps must have the same number of channels.
        same_size: They must have the same height and width.
        softmax_over: Axes of (N, C, H, W) over which the loss forms the softmax of the maps; None if it forms none.
        is_softmax: That softmax, at the loss's temperature, is all that it takes of the maps.
    """

    same_channels = True
    same_size = False
    softmax_over: tuple[int, ...] | None = None
    is_softmax = True

    def __init__(self, loss_weight: float = 1.0, ignore_index: int = 255) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.ignore_index = ignore_index

    def forward(self, student: Tensor, teacher: Tensor, label: Tensor | None = None) -> Tensor:
        """The weighted loss of (N, C, H, W) logits or features, with (N, H, W) integer labels of any size: a scalar.

        Raises:
            UserError: The two maps do not fit together.
        """
        self._check(student, teacher)
        dtype = torch.promote_types(torch.promote_types(student.dtype, teacher.dtype), torch.float32)
        with torch.autocast(student.device.type, enabled=False):
            loss = self.compute(student.to(dtype), teacher.detach().to(dtype), label)
            return loss if self.loss_weight == 1 else self.loss_weight * loss

    def compute(self, student: Tensor, teacher: Tensor, label: Tensor | None) -> Tensor:
        """The loss without its weight, in float32 or better."""
        raise NotImplementedError

    def _check(self, student: Tensor, teacher: Tensor) -> None:
        """Refuse maps that the loss cannot compare."""
        name = type(self).__name__
        if student.ndim != 4 or teacher.ndim != 4 or len(student) != len(teacher):
            raise ShapeError(f"{name} compares two (N, C, H, W) maps with the same N", student, teacher)
        if self.same_channels and student.shape[1] != teacher.shape[1]:
            raise ShapeError(f"{name} needs the same number of channels", student, teacher, self.same_size)
        if self.same_size and student.shape[2:] != teacher.shape[2:]:
            raise ShapeError(f"{name} needs maps of the same size", student, teacher, self.same_size)
