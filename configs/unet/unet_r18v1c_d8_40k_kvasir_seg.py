from mmengine.config import read_base

with read_base():
    from .unet_r18v1c_d8_40k_synapse import *
    from .._base_.datasets.kvasir_seg import *

model.update(num_classes=2)
model["data_preprocessor"].update(size=(352, 352))
