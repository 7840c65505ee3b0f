from mmengine.config import read_base

with read_base():
    from .folder import *

# Slices of 154 to 512 pixels a side become 224x224 as they are read, as in the code behind published tables.
metainfo = dict(classes=("background", "RV", "MYO", "LV"))
for loader in (train_dataloader, val_dataloader, test_dataloader):
    loader.update(dataset=dict(data_root="data/acdc", metainfo=metainfo, size=(224, 224)))
train_dataloader.update(batch_size=8)
val_dataloader.update(dataset=dict(split="val"))
