"""AT: attention transfer between all stages."""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import normalize

from medseg_kd.distill.distiller import ConfigurableDistiller
from medseg_kd.distill.losses.base import DistillLoss
from medseg_kd.distill.losses.pixels import masked_mean, pooled_alike
from medseg_kd.distill.methods.base import compare, method, on_stages, stage_pairs
from medseg_kd.registry import MODELS


@MODELS.register_module()
class ATLoss(DistillLoss):
    """Paying More Attention to Attention (Zagoruyko & Komodakis, ICLR 2017), activation-based.

        A(F) = mean over C of F^2, flattened over H*W, divided by max(||A||_2, 1e-12)
        loss = mean over N*H*W of (A_student - A_teacher)^2

    Channels may differ; the larger map is average-pooled to the smaller before it is squared.

    Args:
        loss_weight: 10,000 is for 512x512 input and maps of 64x64: the squared distance of two unit vectors (0 to 2),
            divided by 4,096 pixels, comes to the scale of cross-entropy and Dice. The value falls as 1 / (H * W), so
            scale the weight with the number of pixels: about 350 at 96x96. (The authors' 1,000 is for 224x224 images,
            with maps from 56x56 to 7x7.)
    """

    same_channels = False

    def __init__(self, loss_weight: float = 1e4, ignore_index: int = 255) -> None:
        super().__init__(loss_weight, ignore_index)

    def compute(self, student: Tensor, teacher: Tensor, label: Tensor | None) -> Tensor:
        """(N, C_s, h, w) and (N, C_t, h, w) features; (N, H, W) labels."""
        student, teacher, valid = pooled_alike(student, teacher, label, self.ignore_index)
        valid = valid.flatten(1)
        return masked_mean((_attention(student, valid) - _attention(teacher, valid)).square(), valid, self.training)


def _attention(feature: Tensor, valid: Tensor) -> Tensor:
    """Normalised attention (N, H*W) of a feature (N, C, H, W), 0 where the (N, H*W) mask is."""
    energy = feature.square().mean(dim=1).flatten(1).masked_fill(~valid, 0)
    return normalize(energy, dim=1, eps=1e-12)


@method(ATLoss)
class AT(ConfigurableDistiller):
    """Attention transfer between paired stages, each with the options of :class:`ATLoss`."""

    def __init__(self, student: nn.Module, teacher: nn.Module, **options: Any) -> None:
        pairs = stage_pairs(student, teacher)
        super().__init__(
            student,
            teacher,
            **on_stages(pairs),
            distill_losses={f"loss_at_{name}": {"type": ATLoss, **options} for name in pairs},
            loss_forward_mappings={f"loss_at_{name}": compare(name) for name in pairs},
        )
