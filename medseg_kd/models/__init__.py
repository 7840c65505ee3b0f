"""Segmentors, networks, losses and on-device preprocessing."""

from medseg_kd.models.augmentation import RandomRotateFlip
from medseg_kd.models.losses import SoftDiceLoss
from medseg_kd.models.networks import FCN, AttentionUNet, MedNeXt, SwinUNETR, UNet
from medseg_kd.models.preprocessor import SlicePreprocessor
from medseg_kd.models.segmentor import Segmentor

__all__ = [
    "FCN",
    "AttentionUNet",
    "MedNeXt",
    "RandomRotateFlip",
    "Segmentor",
    "SlicePreprocessor",
    "SoftDiceLoss",
    "SwinUNETR",
    "UNet",
]
