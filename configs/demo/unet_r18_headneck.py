from mmengine.config import read_base

with read_base():
    from .unet_r18_phantom import *
    from .._base_.datasets.headneck import *

from medseg_kd.engine import NativeAmpOptimWrapper

max_iters = 2000
train_cfg.update(max_iters=max_iters, val_interval=max_iters)
param_scheduler[1].update(end=max_iters)
optim_wrapper.update(type=NativeAmpOptimWrapper)
train_dataloader.update(batch_size=8, num_workers=1)
model.update(num_classes=6)
