"""LSKD: Hinton's distillation of standardised logits."""

from typing import Any

from torch import nn

from medseg_kd.distill.distiller import ConfigurableDistiller
from medseg_kd.distill.methods.base import method, on_logits
from medseg_kd.distill.methods.kd import KDLoss
from medseg_kd.registry import MODELS


@MODELS.register_module()
class LSKDLoss(KDLoss):
    """Logit Standardization in Knowledge Distillation (Sun et al., CVPR 2024), on dense logits.

        z' = (z - mean over C) / (deviation over C + 1e-7),  loss = KD of z'

    It is :class:`KDLoss` with ``standardize=True``, which :class:`DKDLoss` takes too, and defaults of its own. The
    paper divides by the deviation of a population, over C, the authors' code by that of a sample, over C - 1. Here it
    is the code's.

    Args:
        tau: The authors take 2 for 100 classes. Standardised logits are at most (C - 1) / sqrt(C): of 9 classes at 1,
            the largest possible probability is 0.71, soft enough without a temperature.
        loss_weight: 9, the authors'. The gradient on the logits is divided by their deviation, which is several times
            1 where a network is sure.
    """

    def __init__(self, tau: float = 1.0, loss_weight: float = 9.0, ignore_index: int = 255) -> None:
        super().__init__(tau, loss_weight, ignore_index, standardize=True)


@method(LSKDLoss)
class LSKD(ConfigurableDistiller):
    """Pixel-wise distillation of standardised logits; the options are those of :class:`LSKDLoss`."""

    def __init__(self, student: nn.Module, teacher: nn.Module, **options: Any) -> None:
        super().__init__(student, teacher, **on_logits("loss_lskd", {"type": LSKDLoss, **options}, student, teacher))
