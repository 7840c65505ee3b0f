from mmengine.config import read_base

with read_base():
    from .schedule_40k import *

from torch.optim import AdamW

# For minutes on a CPU: AdamW gets there in hundreds of iterations, where the 40k recipe's SGD takes thousands.
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=AdamW, lr=1e-3, weight_decay=1e-4))
param_scheduler[0].update(eta_min=1e-5)
