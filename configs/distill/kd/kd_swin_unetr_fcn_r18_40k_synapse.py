from mmengine.config import read_base

with read_base():
    from ...fcn.fcn_r18_d8_40k_synapse import *
    from ...medical_seg.swin_unetr_base_40k_synapse import model as teacher
    from ..._base_.distill.kd import *

from medseg_kd.distill import SingleTeacherDistill

run = "work_dirs/swin_unetr_base_40k_synapse"
model = dict(type=SingleTeacherDistill, architecture=model, teacher=teacher, teacher_ckpt=run, distiller=distiller)
