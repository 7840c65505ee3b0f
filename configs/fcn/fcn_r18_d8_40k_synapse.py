from mmengine.config import read_base

with read_base():
    from .fcn_r50_d8_40k_synapse import *

model.update(network=dict(backbone=dict(depth=18), channels=128))
