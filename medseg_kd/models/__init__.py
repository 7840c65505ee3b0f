"""Segmentors, networks, losses and on-device preprocessing."""

from medseg_kd.models.augmentation import RandomRotateFlip
from medseg_kd.models.losses import CrossEntropyLoss, RegionLoss, SoftDiceLoss
from medseg_kd.models.mmseg_preprocessor import SegDataPreProcessor
from medseg_kd.models.networks import (
    FCN,
    AttentionUNet,
    FineResNetV1c,
    MedNeXt,
    MISSFormer,
    NnUNet,
    SwinUNETR,
    TransUNet,
    UNet,
)
from medseg_kd.models.nnunet_augmentation import NnUNetAugmentation
from medseg_kd.models.nnunet_segmentor import NnUNetSegmentor
from medseg_kd.models.nnunet_segmentor import NnUNetSegmentor as NnUNetTeacher
from medseg_kd.models.norms import InstanceNorm2d
from medseg_kd.models.preprocessor import SlicePreprocessor
from medseg_kd.models.pretrained import Pretrained
from medseg_kd.models.region_segmentor import RegionSegmentor
from medseg_kd.models.segmentor import Segmentor

__all__ = [
    "FCN",
    "AttentionUNet",
    "CrossEntropyLoss",
    "FineResNetV1c",
    "InstanceNorm2d",
    "MISSFormer",
    "MedNeXt",
    "NnUNet",
    "NnUNetAugmentation",
    "NnUNetSegmentor",
    "NnUNetTeacher",
    "Pretrained",
    "RandomRotateFlip",
    "RegionLoss",
    "RegionSegmentor",
    "SegDataPreProcessor",
    "Segmentor",
    "SlicePreprocessor",
    "SoftDiceLoss",
    "SwinUNETR",
    "TransUNet",
    "UNet",
]
