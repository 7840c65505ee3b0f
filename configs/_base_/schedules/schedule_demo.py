from mmengine.config import read_base

with read_base():
    from .schedule_40k import *

from mmengine.optim.scheduler import LinearLR
from torch.optim import AdamW

# For minutes on a CPU: AdamW gets there in hundreds of iterations, where the 40k recipe's SGD takes thousands.
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=AdamW, lr=1e-3, weight_decay=1e-4))
warm_up = 50
param_scheduler = [
    dict(type=LinearLR, start_factor=0.02, begin=0, end=warm_up, by_epoch=False),
    dict(type=PolyLR, power=0.9, eta_min=1e-5, begin=warm_up, by_epoch=False),
]
