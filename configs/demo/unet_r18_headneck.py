from mmengine.config import read_base

with read_base():
    from ..unet.unet_r18v1c_d8_40k_synapse import *
    from .._base_.datasets.headneck import *
    from .._base_.schedules.schedule_demo import *

max_iters = 900
train_cfg.update(max_iters=max_iters, val_interval=max_iters)
param_scheduler[0].update(end=max_iters)
train_dataloader.update(batch_size=4, num_workers=1)
default_hooks.update(logger=dict(interval=20))
# Slices are enlarged from 96x96: the network's logits are a quarter of its input, the spinal cord is 2 pixels wide.
# No flips: the head is symmetric, so a mirrored slice would show a left parotid under the name of the right one.
model.update(
    num_classes=6,
    data_preprocessor=dict(size=(192, 192), augmentation=dict(flip_prob=0.0)),
)
