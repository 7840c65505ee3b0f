from mmengine.config import read_base

with read_base():
    from .synapse import *

metainfo.update(
    classes=("background", "brainstem", "spinal cord", "right parotid", "left parotid", "mandible"),
)
for loader in (train_dataloader, val_dataloader, test_dataloader):
    loader.update(dataset=dict(data_root="data/headneck", metainfo=metainfo))
