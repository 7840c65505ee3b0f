from mmengine.config import read_base

with read_base():
    from .._base_.distill.cwd import *
    from .unet_r18_half_headneck import *
    from .unet_r18_headneck import model as teacher

from medseg_kd.distill import SingleTeacherDistill

# The published weight of 3 is too much for a run of minutes: docs/results_wide.md has the search.
distiller.update(loss_weight=0.1)
model = dict(
    type=SingleTeacherDistill,
    architecture=model,
    teacher=teacher,
    teacher_ckpt="work_dirs/unet_r18_headneck",
    distiller=distiller,
)
