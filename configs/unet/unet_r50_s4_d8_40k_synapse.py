from mmengine.config import read_base

with read_base():
    from .._base_.datasets.synapse import *
    from .._base_.default_runtime import *
    from .._base_.models.resnet_v1c_d8 import *
    from .._base_.schedules.schedule_40k import *

from medseg_kd.models import InstanceNorm2d, UNet

norm_cfg = dict(type=InstanceNorm2d)
model.update(
    network=dict(
        type=UNet,
        backbone=dict(norm_cfg=norm_cfg),
        norm_cfg=norm_cfg,
        act_cfg=dict(type="LeakyReLU"),
        auxiliary=False,
    ),
)
