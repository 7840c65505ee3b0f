"""BPKD: boundary-privileged distillation, edges pixel by pixel and bodies as shapes."""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from medseg_kd.distill.distiller import ConfigurableDistiller
from medseg_kd.distill.losses.base import DistillLoss
from medseg_kd.distill.methods.base import method, on_logits
from medseg_kd.distill.methods.cwd import CWDLoss
from medseg_kd.distill.methods.kd import KDLoss
from medseg_kd.errors import UserError
from medseg_kd.models.resizing import resize
from medseg_kd.registry import MODELS


@MODELS.register_module()
class BPKDLoss(DistillLoss):
    """Boundary Privileged Knowledge Distillation for Semantic Segmentation (Liu et al., WACV 2024).

        edge = pixels with another class within ``width`` pixels (dilation without erosion of the label's classes)
        loss = edge_weight * KD of the edge pixels + body_weight * CWD of the others

    On edges the classes of a pixel are told apart, in bodies each class's map is a distribution over the pixels, its
    shape. Labels decide, at their resolution: the logits are resized to them. What belongs together at a border has
    one label on each side, so both sides are edge; ignored pixels and the image's border make none.

    The authors have published code for evaluation alone, which holds no loss: this follows the paper, and is made of
    :class:`KDLoss` and :class:`CWDLoss`, which are those of their authors.

    Args:
        width: Pixels on each side of a border. 2 of 512x512 abdominal CT are about 1.5 mm, what experts differ by.
        edge_weight: 1, as of :class:`KDLoss`. The mean is over edges alone: with a twentieth of the pixels on edges
            each has the pull of twenty in KD.
        body_weight: 3, as of :class:`CWDLoss`.
        edge_tau: 1, as of :class:`KDLoss`.
        body_tau: 4, as of :class:`CWDLoss`.
    """

    softmax_over = (1,)
    is_softmax = False

    def __init__(
        self,
        width: int = 2,
        edge_weight: float = 1.0,
        body_weight: float = 3.0,
        edge_tau: float = 1.0,
        body_tau: float = 4.0,
        loss_weight: float = 1.0,
        ignore_index: int = 255,
    ) -> None:
        super().__init__(loss_weight, ignore_index)
        if width < 1:
            raise UserError(f"width is {width}: expected a number of pixels of at least 1")
        self.width, self.edge_weight, self.body_weight = width, edge_weight, body_weight
        self.edge_tau, self.body_tau = edge_tau, body_tau
        self.edge = KDLoss(edge_tau, edge_weight, ignore_index)
        self.body = CWDLoss(body_tau, body_weight, ignore_index)

    def compute(self, student: Tensor, teacher: Tensor, label: Tensor | None) -> Tensor:
        """(N, C, h, w) logits of both, resized to the (N, H, W) labels, which are needed."""
        if label is None:
            raise UserError("BPKDLoss needs the labels: pass them as its third argument, label")
        student, teacher = resize(student, label.shape[-2:]), resize(teacher, label.shape[-2:])
        label = label.long()
        edge = self.edges(label)
        on_edges, in_bodies = (label.masked_fill(outside, self.ignore_index) for outside in (~edge, edge))
        return self.edge(student, teacher, on_edges) + self.body(student, teacher, in_bodies)

    def edges(self, label: Tensor) -> Tensor:
        """Mask (N, H, W) of the pixels of a label (N, H, W) int64 that lie at a border of two classes."""
        ignored = label == self.ignore_index
        # An ignored pixel has no class that differs from its neighbours': it is the lowest of each side.
        sides = [side.float().masked_fill(ignored, -256).unsqueeze(1) for side in (label, -label)]
        largest, smallest = (max_pool2d(side, 2 * self.width + 1, 1, self.width).squeeze(1) for side in sides)
        return (largest != -smallest) & ~ignored


@method(BPKDLoss)
class BPKD(ConfigurableDistiller):
    """Edges and bodies of the logits, resized to the labels; the options are those of :class:`BPKDLoss`."""

    def __init__(self, student: nn.Module, teacher: nn.Module, **options: Any) -> None:
        super().__init__(student, teacher, **on_logits("loss_bpkd", {"type": BPKDLoss, **options}, student, teacher))
