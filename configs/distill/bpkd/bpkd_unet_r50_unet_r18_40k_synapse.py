from mmengine.config import read_base

with read_base():
    from ...unet.unet_r18v1c_d8_40k_synapse import *
    from ...unet.unet_r50_s4_d8_40k_synapse import model as teacher
    from ..._base_.distill.bpkd import *

from medseg_kd.distill import SingleTeacherDistill

run = "work_dirs/unet_r50_s4_d8_40k_synapse"
model = dict(type=SingleTeacherDistill, architecture=model, teacher=teacher, teacher_ckpt=run, distiller=distiller)
