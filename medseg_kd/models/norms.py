"""Norms that launch fewer kernels on a GPU, and give and hold what PyTorch's do."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class InstanceNorm2d(nn.InstanceNorm2d):
    """PyTorch's instance norm, whose output is no view where gradients are recorded.

    PyTorch's returns a view, and autograd copies the whole map three times for an in-place activation after it.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        if self.affine or self.track_running_stats or not torch.is_grad_enabled():
            return super().forward(x)
        maps = x.reshape(1, -1, *x.shape[2:])
        # In a group norm's place autocast would turn maps into float32.
        return torch.ops.aten._unsafe_view(F.batch_norm(maps, None, None, training=True, eps=self.eps), x.shape)


class GroupNorm(nn.GroupNorm):
    """PyTorch's group norm, which in a frozen network whose weights were cast to 16 bits gives 16 bits.

    Mean and deviation are in float32 all the same. Autocast would have the whole norm in float32, which copies the map
    before and after it.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, ...) to the same shape."""
        if self.weight.dtype != x.dtype or x.dtype.itemsize != 2:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x)


@contextmanager
def batches_counted_together(model: nn.Module) -> Iterator[None]:
    """The batch norms of a model count their batch in one kernel, not in one each; nothing changes on the CPU.

    Those that average over all batches (``momentum=None``) need the count at once and keep theirs.
    """
    modules = () if torch.compiler.is_compiling() else model.modules()
    counts = {each: each.num_batches_tracked for each in modules if isinstance(each, _BatchNorm) and _may_wait(each)}
    if counts:
        torch._foreach_add_(list(counts.values()), 1)  # type: ignore[arg-type]
    for norm in counts:
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, count in counts.items():
            norm.num_batches_tracked = count


def _may_wait(norm: _BatchNorm) -> bool:
    """Whether a norm counts batches that it does not read, on a device that launches kernels."""
    count = norm.num_batches_tracked
    return norm.training and norm.momentum is not None and count is not None and count.device.type != "cpu"
