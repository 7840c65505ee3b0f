"""Training in bfloat16."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from torch import nn

from medseg_kd.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Runs the forward pass under bf16 autocast, on a GPU or the CPU.

    bf16 has float32's range, so no gradient is scaled and a run may change between this and ``OptimWrapper`` when it
    is resumed. MMEngine's ``AmpOptimWrapper`` carries fp16's loss scaler and refuses the CPU.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Context of a training step's forward pass."""
        with super().optim_context(model), torch.autocast(get_device(), torch.bfloat16):
            yield
