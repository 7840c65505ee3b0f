from mmengine.config import read_base

with read_base():
    from .teacher_headneck import *

# At 1000 the plain student is still finding organs, and what is compared is how soon that happens.
max_iters = 2000
train_cfg.update(max_iters=max_iters, val_interval=max_iters)
param_scheduler[1].update(end=max_iters)
model.update(network=dict(backbone=dict(base_channels=16, stem_channels=16)))
