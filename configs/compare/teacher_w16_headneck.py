from mmengine.config import read_base

with read_base():
    from ..demo.unet_r18_headneck import *

from mmengine.optim import OptimWrapper

max_iters = 2000
train_cfg.update(max_iters=max_iters, val_interval=max_iters)
param_scheduler[1].update(end=max_iters)
# So narrow a network finds organs, half a percent of the pixels, far sooner where background counts little.
ce = dict(type=CrossEntropyLoss, class_weight=[0.05, 1, 1, 1, 1, 1], loss_weight=0.3)
model.update(network=dict(backbone=dict(base_channels=16, stem_channels=16)), losses=[ce, dict(type=SoftDiceLoss)])
# float32: on many CPUs faster than bf16 for maps of so few channels, and on all of them the same recipe.
optim_wrapper.update(type=OptimWrapper, optimizer=dict(lr=1e-2))
channels_last = True
# A tolerance of a voxel, which is 4 to 5 mm wide in plane.
test_evaluator.update(measures=("Dice", "Jaccard", "HD95", "ASD", dict(type="NSD", tolerance=4)))
