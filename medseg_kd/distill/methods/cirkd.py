"""CIRKD: similarities between the pixels of all images of a batch."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from medseg_kd.distill.distiller import ConfigurableDistiller
from medseg_kd.distill.losses.base import DistillLoss
from medseg_kd.distill.losses.pixels import directions, masked_mean, pooled_alike
from medseg_kd.distill.methods.base import method, on_stage, stage_pair
from medseg_kd.registry import MODELS


@MODELS.register_module()
class CIRKDLoss(DistillLoss):
    """Cross-Image Relational Knowledge Distillation (Yang et al., CVPR 2022), the mini-batch pixel-to-pixel term.

        f = features of unit length at each pixel;  S_ij = f_i f_j^T, all pixels of image i with all of image j
        loss = mean over i, j of the mean over the rows of KL(softmax(S_ij / T) of the teacher || of the student)

    Equals the authors' ``CriterionMiniBatchCrossImagePair``. Their terms on a memory bank of other batches (pixels and
    regions) are left out. Channels may differ, without a connector. Each process compares the images of its own batch,
    as in their code. Ignored pixels are neither rows nor columns.

    Args:
        tau: Temperature T, the authors' 0.1.
        grid: Maps larger than this are average-pooled to at most so many rows and columns, the larger of the two maps
            to the smaller in any case. The similarities of a batch are (N * pixels)^2 numbers: with 64x64 maps, those
            of 512x512 slices, four of 268 MB for two images; with 32x32 four of 17 MB. The authors pool from 256x256
            on, by 4.
        loss_weight: The authors' 1: the KL of distributions over pixels does not depend on the image's size as such.
    """

    same_channels = False

    def __init__(self, tau: float = 0.1, grid: int = 32, loss_weight: float = 1.0, ignore_index: int = 255) -> None:
        super().__init__(loss_weight, ignore_index)
        self.tau, self.grid = tau, grid

    def compute(self, student: Tensor, teacher: Tensor, label: Tensor | None) -> Tensor:
        """(N, C_s, h, w) and (N, C_t, h, w) features; (N, H, W) labels."""
        student, teacher, valid = pooled_alike(student, teacher, label, self.ignore_index, self.grid)
        valid = valid.flatten(1)
        log_s, log_t = (self._similarities(each, valid) for each in (student, teacher))
        kl = (log_t.exp() * (log_t - log_s)).masked_fill(~valid, 0).sum(dim=-1)
        return masked_mean(kl, valid.flatten()[:, None] & valid.any(dim=1), self.training)

    def _similarities(self, feature: Tensor, valid: Tensor) -> Tensor:
        """Log-softmax (N * P, N, P) of each pixel's similarities to the P pixels of each image of (N, C, h, w)."""
        pixels = directions(feature.flatten(2)).movedim(1, 2).flatten(0, 1)
        similarities = (pixels @ pixels.mT / self.tau).unflatten(1, valid.shape)
        return log_softmax(similarities.masked_fill(~valid, torch.finfo(pixels.dtype).min), dim=-1)


@method(CIRKDLoss)
class CIRKD(ConfigurableDistiller):
    """Similarities across the images of a batch, in a stage.

    Args:
        stage: Index into the paired stages, shallow to deep. The authors take the last features before the classifier;
            of the stages that every network names that is the deepest, -1, whose maps are small too.
        options: Those of :class:`CIRKDLoss`.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module, stage: int = -1, **options: Any) -> None:
        pair = stage_pair(student, teacher, stage)
        super().__init__(student, teacher, **on_stage("loss_cirkd", {"type": CIRKDLoss, **options}, pair))
