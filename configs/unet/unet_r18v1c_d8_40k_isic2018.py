from mmengine.config import read_base

with read_base():
    from .unet_r18v1c_d8_40k_synapse import *
    from .._base_.datasets.isic2018 import *

model.update(num_classes=2)
