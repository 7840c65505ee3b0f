from mmengine.config import read_base

with read_base():
    from ..unet.unet_r18v1c_d8_40k_synapse import *
    from .._base_.schedules.schedule_demo import *

from medseg_kd.models.networks.resnet import FineResNetV1c

max_iters = 250
train_cfg.update(max_iters=max_iters, val_interval=max_iters)
param_scheduler[1].update(end=max_iters)
train_dataloader.update(batch_size=8, num_workers=1, dataset=dict(data_root="data/phantom"))
val_dataloader.update(num_workers=1, dataset=dict(data_root="data/phantom"))
test_dataloader.update(num_workers=1, dataset=dict(data_root="data/phantom"))
default_hooks.update(logger=dict(interval=20))
# At 1e-3 so narrow a network takes 800 iterations to tell organs, half a percent of the pixels, from background.
optim_wrapper.update(optimizer=dict(lr=4e-3))
# Slices of 96x96 as they are: logits at half their size, and strides instead of dilations, for a quarter of the cost.
backbone = dict(type=FineResNetV1c, base_channels=32, stem_channels=32, dilations=(1, 1, 1, 1), strides=(1, 2, 2, 2))
# No augmentation: a run sees each slice a few times, and a mirrored head would swap left and right parotid.
model.update(network=dict(backbone=backbone), data_preprocessor=dict(augmentation=None))
