from mmengine.config import read_base

with read_base():
    from .unet_r18v1c_d8_40k_synapse import *
    from .._base_.datasets.folder import *

# Any data folder: what it holds is told by itself.
model.update(num_classes=None)
