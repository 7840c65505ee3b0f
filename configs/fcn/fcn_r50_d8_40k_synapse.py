from mmengine.config import read_base

with read_base():
    from .._base_.datasets.synapse import *
    from .._base_.default_runtime import *
    from .._base_.models.resnet_v1c_d8 import *
    from .._base_.schedules.schedule_40k import *

from medseg_kd.models import FCN

model.update(network=dict(type=FCN, channels=512), output_weights=(1.0, 0.5))
