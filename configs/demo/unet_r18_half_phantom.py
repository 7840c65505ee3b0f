from mmengine.config import read_base

with read_base():
    from .unet_r18_phantom import *

model.update(network=dict(backbone=dict(base_channels=16, stem_channels=16)))
