"""Segmentation losses that MMSegmentation lacks or defines otherwise."""

from medseg_kd.models.losses.soft_dice import SoftDiceLoss

__all__ = ["SoftDiceLoss"]
