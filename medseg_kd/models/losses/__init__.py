"""Segmentation losses that MMSegmentation lacks or computes otherwise."""

from medseg_kd.models.losses.cross_entropy import CrossEntropyLoss
from medseg_kd.models.losses.region import RegionLoss
from medseg_kd.models.losses.soft_dice import SoftDiceLoss

__all__ = ["CrossEntropyLoss", "RegionLoss", "SoftDiceLoss"]
