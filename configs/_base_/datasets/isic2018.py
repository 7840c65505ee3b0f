from mmengine.config import read_base

with read_base():
    from .folder import *

# Images of up to 30 megapixels are resized as they are read, once: the cache keeps them.
metainfo = dict(classes=("background", "lesion"))
for loader in (train_dataloader, val_dataloader, test_dataloader):
    loader.update(dataset=dict(data_root="data/isic2018", metainfo=metainfo, size=(256, 256)))
train_dataloader.update(batch_size=8)
val_dataloader.update(dataset=dict(split="val"))
