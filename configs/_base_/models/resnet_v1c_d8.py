from mmseg.models.backbones import ResNetV1c
from mmseg.models.losses import CrossEntropyLoss

from medseg_kd.models import RandomRotateFlip, Segmentor, SlicePreprocessor, SoftDiceLoss

model = dict(
    type=Segmentor,
    num_classes=9,
    network=dict(
        backbone=dict(
            type=ResNetV1c,
            depth=50,
            in_channels=1,
            dilations=(1, 1, 2, 4),
            strides=(1, 2, 1, 1),
            contract_dilation=True,
            norm_cfg=dict(type="BN"),
        )
    ),
    losses=[dict(type=CrossEntropyLoss, avg_non_ignore=True), dict(type=SoftDiceLoss)],
    data_preprocessor=dict(type=SlicePreprocessor, augmentation=dict(type=RandomRotateFlip)),
)
