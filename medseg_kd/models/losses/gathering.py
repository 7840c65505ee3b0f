"""Sums over the batches of all processes of a run, so that a loss does not depend on how many share a batch."""

import torch
import torch.distributed
from mmengine.dist import get_world_size
from torch import Tensor


def sum_over_processes(local: Tensor, training: bool) -> Tensor:
    """Sum of a tensor over all processes in training, with its gradient; else the tensor.

    Each process computes the same loss from the sum, so that the gradient of all their losses is that of its own times
    their number; no second exchange is needed in the backward pass. Averaged over the processes, as DDP does, this is
    the gradient of the loss of the whole batch. One sum may not depend on another one's gradient.
    """
    if not training or get_world_size() == 1:
        return local
    return reduced(local) + get_world_size() * (local - local.detach())


def count(local: Tensor, training: bool, least: float = 1) -> Tensor:
    """Divisor of a mean over what is counted, ``least`` where that is nothing.

    In training with several processes it is the mean of their counts: what each divides by it is, averaged over the
    processes, the mean over the whole batch, however unevenly ignored pixels are spread.
    """
    if not training or get_world_size() == 1:
        return local.clamp(min=least)
    return reduced(local).clamp(min=least) / get_world_size()


def reduced(local: Tensor, largest: bool = False) -> Tensor:
    """Sum of a tensor over all processes, or its largest value, without a gradient."""
    total = local.detach().clone()
    operations = torch.distributed.ReduceOp
    torch.distributed.all_reduce(total, operations.MAX if largest else operations.SUM)
    return total
