"""Training in mixed precision."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.optim import Optimizer

from medseg_kd.models.precision import native_dtype, native_dtype_reason
from medseg_kd.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Runs the forward pass under bf16 autocast, on a GPU or the CPU.

    bf16 has float32's range, so no gradient is scaled and a run may change between this and ``OptimWrapper`` when it
    is resumed. MMEngine's ``AmpOptimWrapper`` carries fp16's loss scaler and refuses the CPU.
    """

    dtype = torch.bfloat16

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Context of a training step's forward pass."""
        low = torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)
        with super().optim_context(model), low:
            yield

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.param_groups[0]["params"][0].device


@OPTIM_WRAPPERS.register_module()
class NativeAmpOptimWrapper(BFloat16OptimWrapper):
    """Runs the forward pass in the precision that the device computes in by itself, and logs which that is.

    bf16 where the hardware has it, fp16 with scaled gradients on a GPU that has not, float32 on a CPU that has not:
    see :func:`medseg_kd.models.precision.native_dtype`. A run may go on from a checkpoint of another precision.

    Args:
        optimizer: What updates the parameters, already on their device.
        kwargs: Of MMEngine's ``OptimWrapper``.
    """

    def __init__(self, optimizer: Optimizer, **kwargs: Any) -> None:
        super().__init__(optimizer, **kwargs)
        self.dtype = native_dtype(self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        print_log(f"training in {native_dtype_reason(self.device)}", logger="current")

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Gradients of the loss, scaled in fp16."""
        super().backward(self.scaler.scale(loss), **kwargs)

    def step(self, **kwargs: Any) -> None:
        """Update the parameters; a step whose scaled gradients overflow is left out."""
        if self.clip_grad_kwargs:
            self.scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.scaler.step(self.optimizer, **kwargs)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's state and, in fp16, the scaler's under MMEngine's key ``loss_scaler``."""
        scaler = {"loss_scaler": self.scaler.state_dict()} if self.scaler.is_enabled() else {}
        return {**super().state_dict(), **scaler}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state, with that of a scaler or without."""
        state_dict = dict(state_dict)
        scaler = state_dict.pop("loss_scaler", None)
        if scaler:
            self.scaler.load_state_dict(scaler)
        super().load_state_dict(state_dict)
