"""Activation checkpointing: what a module computed is computed again for the backward pass, not kept."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from medseg_kd.errors import UserError


def checkpoint_activations(model: nn.Module, names: str | Sequence[str]) -> None:
    """Let the modules of these names keep their inputs alone in training; what they compute stays as it is.

    MMEngine's ``turn_on_activation_checkpointing`` gives no gradient to a module whose input has none, such as a
    backbone, and lets batch norms see each batch twice.

    Args:
        model: Changed in place; its parameters keep their names.
        names: ``activation_checkpointing`` of the config, as in ``model.named_modules()``.

    Raises:
        UserError: There is no module of a name.
    """
    for name in [names] if isinstance(names, str) else names:
        try:
            module = model.get_submodule(name)
        except AttributeError as error:
            raise UserError(
                f"activation_checkpointing names {name!r}, which the model has not: {error}. Name modules as "
                "model.named_modules() does, such as network.backbone, or architecture.network.backbone of a student"
            ) from error
        module.forward = partial(_checkpointed, module, module.forward)


def _checkpointed(module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The forward pass of a module, checkpointed where gradients are recorded."""
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    contexts = partial(_contexts, module)
    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


def _contexts(module: nn.Module) -> tuple[Any, Any]:
    return nullcontext(), _statistics_kept(module)


@contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    """Batch norms normalise by their batch and remember nothing of it."""
    norms = [each for each in module.modules() if isinstance(each, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
