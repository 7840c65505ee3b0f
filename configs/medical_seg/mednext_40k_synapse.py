from mmengine.config import read_base

with read_base():
    from .._base_.datasets.synapse import *
    from .._base_.default_runtime import *
    from .._base_.models.full_resolution import *
    from .._base_.schedules.schedule_40k import *

from medseg_kd.models import MedNeXt

model.update(network=dict(type=MedNeXt))
