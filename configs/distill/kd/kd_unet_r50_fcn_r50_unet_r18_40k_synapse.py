from mmengine.config import read_base

with read_base():
    from ...unet.unet_r18v1c_d8_40k_synapse import *
    from ...unet.unet_r50_s4_d8_40k_synapse import model as unet
    from ...fcn.fcn_r50_d8_40k_synapse import model as fcn
    from ..._base_.distill.kd import *

from medseg_kd.distill import MultiTeacherDistill

teachers = [
    dict(model=unet, ckpt="work_dirs/unet_r50_s4_d8_40k_synapse", weight=2),
    dict(model=fcn, ckpt="work_dirs/fcn_r50_d8_40k_synapse", weight=1),
]
model = dict(type=MultiTeacherDistill, architecture=model, teachers=teachers, distiller=distiller)
