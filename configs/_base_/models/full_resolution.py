from medseg_kd.models import CrossEntropyLoss, RandomRotateFlip, Segmentor, SlicePreprocessor, SoftDiceLoss

model = dict(
    type=Segmentor,
    num_classes=9,
    losses=[dict(type=CrossEntropyLoss), dict(type=SoftDiceLoss)],
    data_preprocessor=dict(type=SlicePreprocessor, augmentation=dict(type=RandomRotateFlip)),
)
