"""Segmentation losses that MMSegmentation lacks or computes otherwise, and how any loss is called."""

from medseg_kd.models.losses.cross_entropy import CrossEntropyLoss
from medseg_kd.models.losses.loss_configs import build_losses
from medseg_kd.models.losses.region import RegionLoss
from medseg_kd.models.losses.soft_dice import SoftDiceLoss

__all__ = ["CrossEntropyLoss", "RegionLoss", "SoftDiceLoss", "build_losses"]
