from mmengine.config import read_base

with read_base():
    from .student_w8_headneck import *

max_iters = 2000
train_cfg.update(max_iters=max_iters, val_interval=max_iters)
param_scheduler[1].update(end=max_iters)
