"""What a GPU would wait for or refuse, seen on the CPU."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_aten = torch.ops.aten
_READS = {_aten._local_scalar_dense, _aten.nonzero, _aten.masked_select, _aten.equal}
_UNDETERMINISTIC = {_aten._adaptive_avg_pool2d, _aten.nll_loss_forward, _aten.nll_loss2d_forward}


class DeviceFaults(TorchDispatchMode):
    """Lists, in ``found``, operations whose result the host has to read, and those without a deterministic form."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        masks = func.overloadpacket in (_aten.index, _aten.index_put) and any(
            isinstance(each, torch.Tensor) and each.dtype == torch.bool for each in tree_leaves(args[1])
        )
        # Each pixel's loss by itself is deterministic; only sums over pixels are not.
        unsummed = func.overloadpacket is _aten.nll_loss2d_forward and args[3] == 0
        if masks or (func.overloadpacket in _READS | _UNDETERMINISTIC and not unsummed):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))
