from mmengine.config import read_base

with read_base():
    from .schedule_40k import *

from mmengine.optim.scheduler import CosineAnnealingLR, LinearLR
from torch.optim import AdamW

# For transformers: AdamW, the rate rising to 2e-4 over the first 500 iterations and falling to 0 along a cosine.
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=AdamW, lr=2e-4, weight_decay=1e-5))
warm_up = 500
param_scheduler = [
    dict(type=LinearLR, start_factor=1 / warm_up, begin=0, end=warm_up, by_epoch=False),
    dict(type=CosineAnnealingLR, eta_min=0, begin=warm_up, end=40000, by_epoch=False),
]
