from mmengine.config import read_base

with read_base():
    from .full_resolution import *

from mmseg.models.backbones import ResNetV1c

model.update(
    network=dict(
        backbone=dict(
            type=ResNetV1c,
            depth=50,
            dilations=(1, 1, 2, 4),
            strides=(1, 2, 1, 1),
            contract_dilation=True,
            norm_cfg=dict(type="BN"),
        )
    ),
)
