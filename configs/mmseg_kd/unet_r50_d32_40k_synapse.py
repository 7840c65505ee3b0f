from mmengine.config import read_base

with read_base():
    from ..unet.unet_r50_s4_d8_40k_synapse import *

from mmseg.models.backbones import ResNet

model.update(
    network=dict(
        backbone=dict(type=ResNet, strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1), contract_dilation=False), num_convs=1
    )
)
