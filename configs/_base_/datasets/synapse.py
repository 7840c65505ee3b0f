from mmengine.config import read_base

with read_base():
    from .folder import *

data_root = "data/synapse"
metainfo = dict(
    classes=(
        "background",
        "aorta",
        "gallbladder",
        "left kidney",
        "right kidney",
        "liver",
        "pancreas",
        "spleen",
        "stomach",
    )
)
for loader in (train_dataloader, val_dataloader, test_dataloader):
    loader.update(dataset=dict(data_root=data_root, metainfo=metainfo))
