from mmengine.config import read_base

with read_base():
    from .teacher_w16_headneck import *

max_iters = 1000
train_cfg.update(max_iters=max_iters, val_interval=max_iters)
param_scheduler[1].update(end=max_iters)
model.update(network=dict(backbone=dict(base_channels=8, stem_channels=8)))
