"""What makes a step on a GPU faster and leaves what it computes as it is."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import BatchNorm2d, _NormBase
from torch.optim import Optimizer

from medseg_kd.errors import UserError
from medseg_kd.registry import OPTIMIZERS, found


def with_fused_optimizer(optim_wrapper: Any, device: torch.device) -> Any:
    """The config of an optimizer wrapper whose optimizer updates all parameters in one kernel.

    Args:
        optim_wrapper: Config; one that says ``fused`` or ``foreach`` stays as it is.
        device: Where the parameters are.

    Returns:
        The config, with ``fused=True`` on a CUDA device where the optimizer knows it.
    """
    optimizer = optim_wrapper.get("optimizer") if isinstance(optim_wrapper, Mapping) else None
    if device.type != "cuda" or not isinstance(optimizer, Mapping) or {"fused", "foreach"} & set(optimizer):
        return optim_wrapper
    kind = found(OPTIMIZERS, optimizer.get("type"))
    if kind is None or "fused" not in inspect.signature(kind).parameters:
        return optim_wrapper
    return {**optim_wrapper, "optimizer": {**optimizer, "fused": True}}


def align_gradients(optimizer: Optimizer, *_: Any) -> None:
    """Before a step, give gradients the strides of their parameters where these differ along axes of length 1 alone.

    cuDNN makes such gradients of 1x1 kernels, and fused optimizers refuse them.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is not None and gradient.stride() != parameter.stride():
                same = [a == b for a, b, n in zip(gradient.stride(), parameter.stride(), parameter.shape) if n > 1]  # noqa: B905
                parameter.grad = (
                    gradient.as_strided(parameter.shape, parameter.stride())
                    if all(same)
                    else torch.empty_like(parameter).copy_(gradient)
                )


def use_channels_last(model: nn.Module, asked: Any, device: torch.device) -> bool:
    """Lay out kernels, and so all that convolutions give, channels last where that is faster.

    Args:
        model: Changed in place, teachers too.
        asked: ``channels_last`` of the config: True, False, or ``auto``: on a CUDA device for networks whose norms are
            all batch norms; instance norms would copy their input back.
        device: Where the model is.

    Returns:
        Whether it was done.

    Raises:
        UserError: ``asked`` is none of these.
    """
    if asked not in (True, False, "auto"):
        raise UserError(f"channels_last is {asked!r}: expected True, False or 'auto'")
    norms = [each for each in model.modules() if isinstance(each, (_NormBase, nn.LayerNorm, nn.GroupNorm))]
    suits = device.type == "cuda" and norms and all(isinstance(each, BatchNorm2d) for each in norms)
    if asked is True or (asked == "auto" and suits):
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if device.type == "cpu":
            _keep_rows_together(model)
        return True
    return False


def _keep_rows_together(model: nn.Module) -> None:
    """Give 1x1 convolutions with a stride and fewer than 16 channels their input and kernel channels first.

    oneDNN 3.12, PyTorch 2.13's library for CPUs, writes beyond its memory in their backward pass where they lie
    channels last; on an AMD EPYC with AVX-512 it ends in a segmentation fault.
    """
    for module in (each for each in model.modules() if isinstance(each, nn.Conv2d)):
        if module.kernel_size == (1, 1) and module.stride != (1, 1) and module.in_channels < 16:
            weight = module.weight.data
            module.weight.data = torch.empty(weight.shape, dtype=weight.dtype).copy_(weight)
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(), *inputs[1:]))
