from mmengine.config import read_base

with read_base():
    from .folder import *

# Read anew each time: decoded, 900 images of up to 1920x1072 would take gigabytes.
metainfo = dict(classes=("background", "polyp"))
for loader in (train_dataloader, val_dataloader, test_dataloader):
    loader.update(dataset=dict(data_root="data/kvasir_seg", metainfo=metainfo))
train_dataloader.update(batch_size=8, dataset=dict(cache=None))
