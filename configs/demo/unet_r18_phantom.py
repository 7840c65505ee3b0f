from mmengine.config import read_base

with read_base():
    from ..unet.unet_r18v1c_d8_40k_synapse import *
    from .._base_.schedules.schedule_demo import *

max_iters = 250
train_cfg.update(max_iters=max_iters, val_interval=max_iters)
param_scheduler[1].update(end=max_iters)
train_dataloader.update(batch_size=8, num_workers=1, dataset=dict(data_root="data/phantom"))
val_dataloader.update(num_workers=1, dataset=dict(data_root="data/phantom"))
test_dataloader.update(num_workers=1, dataset=dict(data_root="data/phantom"))
default_hooks.update(logger=dict(interval=20))
# No augmentation: in so few iterations it only slows the network down.
model.update(data_preprocessor=dict(augmentation=None))
