from mmengine.config import read_base

with read_base():
    from .student_w8_headneck import *

max_iters = 4000
train_cfg.update(max_iters=max_iters, val_interval=max_iters)
param_scheduler[1].update(end=max_iters)
# Every fourth of the 80 training patients, by name: the student has these alone.
cases = ["pt_1", "pt_111", "pt_133", "pt_157", "pt_172", "pt_182", "pt_197", "pt_209", "pt_225", "pt_243"]
cases += ["pt_256", "pt_263", "pt_277", "pt_301", "pt_309", "pt_334", "pt_41", "pt_65", "pt_82", "pt_90"]
train_dataloader.update(dataset=dict(labelled=cases))
