from mmengine.config import read_base

with read_base():
    from .student_w8_headneck import *

max_iters = 400
train_cfg.update(max_iters=max_iters, val_interval=max_iters)
param_scheduler[1].update(end=max_iters)
# Every tenth of the 80 training patients, by name: the student has labels of these alone.
cases = ["pt_1", "pt_144", "pt_182", "pt_213", "pt_256", "pt_291", "pt_334", "pt_71"]
train_dataloader.update(dataset=dict(cases=cases))
