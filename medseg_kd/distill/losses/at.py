"""Attention transfer."""

from torch import Tensor
from torch.nn.functional import normalize

from medseg_kd.distill.losses.base import DistillLoss
from medseg_kd.distill.losses.pixels import masked_mean, masked_pool, valid_pixels
from medseg_kd.registry import MODELS


@MODELS.register_module()
class ATLoss(DistillLoss):
    """Paying More Attention to Attention (Zagoruyko & Komodakis, ICLR 2017), activation-based.

        A(F) = mean over C of F^2, flattened over H*W, divided by max(||A||_2, 1e-12)
        loss = mean over N*H*W of (A_student - A_teacher)^2

    Channels may differ; the larger map is average-pooled to the smaller before it is squared. The value falls as
    1 / (H * W) for maps that look alike, so a weight belongs to the resolution that it was chosen at.

    Args:
        loss_weight: Multiplies the result.
        ignore_index: Label of pixels that take no part.
    """

    same_channels = False

    def compute(self, student: Tensor, teacher: Tensor, label: Tensor | None) -> Tensor:
        """(N, C_s, h, w) and (N, C_t, h, w) features; (N, H, W) labels."""
        size = (min(student.shape[-2], teacher.shape[-2]), min(student.shape[-1], teacher.shape[-1]))
        student, valid_s = masked_pool(student, valid_pixels(label, student, self.ignore_index), size)
        teacher, valid_t = masked_pool(teacher, valid_pixels(label, teacher, self.ignore_index), size)
        valid = (valid_s & valid_t).flatten(1)
        return masked_mean((_attention(student, valid) - _attention(teacher, valid)).square(), valid)


def _attention(feature: Tensor, valid: Tensor) -> Tensor:
    """Normalised attention (N, H*W) of a feature (N, C, H, W), 0 where the (N, H*W) mask is."""
    energy = feature.square().mean(dim=1).flatten(1).masked_fill(~valid, 0)
    return normalize(energy, dim=1, eps=1e-12)
