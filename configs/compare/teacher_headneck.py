from mmengine.config import read_base

with read_base():
    from ..demo.unet_r18_headneck import *

max_iters = 3000
train_cfg.update(max_iters=max_iters, val_interval=max_iters)
param_scheduler[1].update(end=max_iters)
# A tolerance of a voxel, which is 4 to 5 mm wide in plane.
test_evaluator.update(measures=("Dice", "Jaccard", "HD95", "ASD", dict(type="NSD", tolerance=4)))
