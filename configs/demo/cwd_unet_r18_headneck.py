from mmengine.config import read_base

with read_base():
    from .._base_.distill.cwd import *
    from .unet_r18_half_headneck import *
    from .unet_r18_headneck import model as teacher

from medseg_kd.distill import SingleTeacherDistill

model = dict(
    type=SingleTeacherDistill,
    architecture=model,
    teacher=teacher,
    teacher_ckpt="work_dirs/unet_r18_headneck",
    distiller=distiller,
)
