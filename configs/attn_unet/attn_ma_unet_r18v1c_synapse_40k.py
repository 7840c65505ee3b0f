from mmengine.config import read_base

with read_base():
    from ..unet.unet_r18v1c_d8_40k_synapse import *

from medseg_kd.models import AttentionUNet

model.update(network=dict(type=AttentionUNet))
