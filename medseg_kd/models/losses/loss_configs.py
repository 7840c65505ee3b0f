"""The losses that a segmentor's config asks for."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import mmseg.models.losses
import torch
from torch import nn

from medseg_kd.errors import UserError, first_line
from medseg_kd.models.losses.call import IGNORED, LossCall
from medseg_kd.models.losses.cross_entropy import CrossEntropyLoss
from medseg_kd.models.losses.trial import try_loss
from medseg_kd.models.types import find_type
from medseg_kd.registry import check_arguments

_FOCAL = "monai.losses.focal_loss"
"""Where it is told an ignored label, its mean is over pixels, else over pixels and classes."""


def build_losses(
    losses: Any,
    outputs: int,
    classes: int,
    ignore_index: int,
    regions: Sequence[Sequence[int]] = (),
    where: str = "model.losses",
) -> tuple[nn.ModuleList, list[LossCall]]:
    """Build the losses of a segmentor, and try each of them.

    Args:
        losses: Configs or modules, or a single one. ``loss_weight`` and ``loss_name`` may be given to every class;
            ``ignore_index`` and ``regions`` are filled in where a constructor takes them.
        outputs: Channels of the logits.
        classes: Classes of the labels.
        ignore_index: Label of pixels that take no part.
        regions: The classes of each output where the outputs are regions.
        where: Their place in the config.

    Returns:
        The modules, and how each is called. Their buffers are not saved: they are settings, such as class weights.

    Raises:
        UserError: A loss cannot be built, has a name that MMEngine does not train on, or see :func:`try_loss`.
    """
    given = losses if isinstance(losses, (list, tuple)) else [losses] if losses else []
    modules, calls = nn.ModuleList(), []
    for index, cfg in enumerate(given):
        loss, call = _build(cfg, f"{where}[{index}]", ignore_index, regions)
        try_loss(loss, call, outputs, classes)
        for module in loss.modules():
            for name, buffer in list(module.named_buffers(recurse=False)):
                module.register_buffer(name, buffer, persistent=False)
        modules.append(loss)
        calls.append(call)
    taken = {call.name for call in calls}
    for loss, call in zip(modules, calls, strict=True):
        if call.name in ("", "loss"):  # the log's "loss" is the sum
            kind = type(loss).__name__
            name = f"loss_{kind.removesuffix('Loss').lower() or 'own'}"
            call.name = next(free for free in (name, *(f"{name}{n}" for n in range(2, 99))) if free not in taken)
            taken.add(call.name)
        elif "loss" not in call.name:
            raise UserError(
                f"{call.where} is named {call.name!r} and would be logged but not trained on: only what has 'loss' in "
                f"its name is summed. Set loss_name='loss_{call.name}'"
            )
    return modules, calls


def _build(cfg: Any, where: str, ignore_index: int, regions: Sequence[Sequence[int]]) -> tuple[nn.Module, LossCall]:
    """A loss, and how it is called; without a name where it has none of its own."""
    loss, own = cfg, {}
    if not isinstance(cfg, nn.Module):
        kind = find_type(cfg, where, "loss")
        taken = inspect.signature(kind).parameters
        options = {key: value for key, value in cfg.items() if key not in ("type", "_scope_")}
        own = {key: options.pop(key) for key in ("loss_weight", "loss_name") if key in options and key not in taken}
        known = {"regions": regions} if regions else dict.fromkeys(IGNORED, ignore_index)
        if kind.__module__ != _FOCAL:
            options = {**{key: value for key, value in known.items() if key in taken}, **options}
        if kind is mmseg.models.losses.CrossEntropyLoss and options.get("avg_non_ignore"):
            kind = CrossEntropyLoss  # which is equal; theirs fails with class_weight
        for key in {"weight", "pos_weight"} & options.keys():
            if kind.__module__.startswith(("torch.", "monai.")) and isinstance(options[key], (list, tuple)):
                options[key] = torch.tensor(options[key], dtype=torch.float32)
        check_arguments(kind, options, where)
        try:
            loss = kind(**options)
        except UserError:
            raise
        except Exception as error:  # whatever a foreign class raises
            reason = " ".join(first_line(error).split())
            raise UserError(f"{where}: {getattr(kind, '__name__', kind)}: {reason}") from error
    weight = cfg.get("loss_weight", 1.0) if isinstance(cfg, Mapping) else 1.0
    if not isinstance(loss, nn.Module) or not isinstance(weight, (int, float)):
        found = f"loss_weight={weight!r}" if isinstance(loss, nn.Module) else f"a {type(loss).__name__}"
        raise UserError(f"{where} gives {found}, expected a torch.nn.Module and a number as its weight")
    return loss, LossCall(loss, where, ignore_index, regions, **own)
