from mmengine.config import read_base

with read_base():
    from .._base_.datasets.synapse import *
    from .._base_.default_runtime import *
    from .._base_.models.full_resolution import *
    from .._base_.schedules.schedule_40k import *

from medseg_kd.models import TransUNet

# Google's ImageNet-21k weights: network=dict(init_cfg=dict(type="Pretrained", checkpoint="R50+ViT-B_16.npz")).
model.update(network=dict(type=TransUNet, img_size=512))
