"""Networks: modules that map (N, in_channels, H, W) to logits, and tell of their stages in ``feature_info``."""

import medseg_kd.models.networks.smp_nets  # noqa: F401 (which registers what finds them)
from medseg_kd.models.networks.attention_unet import AttentionUNet
from medseg_kd.models.networks.fcn import FCN
from medseg_kd.models.networks.mednext import MedNeXt
from medseg_kd.models.networks.missformer import MISSFormer
from medseg_kd.models.networks.nnunet import NnUNet
from medseg_kd.models.networks.resnet import FineResNetV1c
from medseg_kd.models.networks.swin_unetr import SwinUNETR
from medseg_kd.models.networks.transunet import TransUNet
from medseg_kd.models.networks.unet import UNet

__all__ = ["FCN", "AttentionUNet", "FineResNetV1c", "MISSFormer", "MedNeXt", "NnUNet", "SwinUNETR", "TransUNet", "UNet"]
