from mmseg.models.losses import CrossEntropyLoss

from medseg_kd.models import RandomRotateFlip, Segmentor, SlicePreprocessor, SoftDiceLoss

model = dict(
    type=Segmentor,
    num_classes=9,
    losses=[dict(type=CrossEntropyLoss, avg_non_ignore=True), dict(type=SoftDiceLoss)],
    data_preprocessor=dict(type=SlicePreprocessor, augmentation=dict(type=RandomRotateFlip)),
)
