from mmengine.config import read_base

with read_base():
    from ..unet.unet_r18v1c_d8_40k_synapse import *
    from .._base_.datasets.headneck import *
    from .._base_.schedules.schedule_demo import *

from medseg_kd.engine import NativeAmpOptimWrapper

max_iters = 1800
train_cfg.update(max_iters=max_iters, val_interval=max_iters)
param_scheduler[1].update(end=max_iters)
optim_wrapper.update(type=NativeAmpOptimWrapper)
train_dataloader.update(batch_size=8, num_workers=1)
default_hooks.update(logger=dict(interval=20))
# Slices are enlarged from 96x96: the network's logits are a quarter of its input, the spinal cord is 3 pixels wide.
# No augmentation: a run sees each slice once or twice; and a mirrored head would swap left and right parotid.
model.update(num_classes=6, data_preprocessor=dict(size=(128, 128), augmentation=None))
