"""The arguments that a config gives to a class: their names, that none lacks, and the kinds of their values."""

import textwrap
from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import Any

import mmengine.runner
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.registry import Registry

from medseg_kd import registry as registries
from medseg_kd.configuration.kinds import expected, named_parameters, signature
from medseg_kd.errors import UserError, did_you_mean

REGISTRIES = [value for value in vars(registries).values() if isinstance(value, Registry)]
# Classes of these take nothing that they do not name or hand to their bases.
KNOWN_CODE = ("medseg_kd.", "mmseg.", "mmengine.", "torch.")
# What a message does not list: what a config need not say, or cannot.
_NOT_TOLD = {"self", "type", "_scope_", "by_epoch", "runner", "dataloader", "evaluator", "params"}
_LONGEST_VALUE = 100
# What MMEngine takes and does not annotate.
_WIDER = {"loss_scale": str | float | dict}


def check_arguments(where: str, node: Mapping[str, Any], kind: Any, others: set[str], is_part: bool) -> None:
    """Refuse arguments that a class or function does not take, or not of that kind, and the lack of those it needs.

    Args:
        where: File and place in the config.
        node: What the config gives.
        kind: The class or function.
        others: Keys that are not, or not only, for it.
        is_part: Whether nothing but the config gives it arguments, so that those that lack are told.
    """
    theirs = not kind.__module__.startswith(KNOWN_CODE) or kind.__name__ == "TIMMBackbone"
    taken = accepted_arguments(kind, node)
    if taken is None or (theirs and any(p.kind is p.VAR_KEYWORD for p in signature(kind).parameters.values())):
        taken = named_parameters(kind)  # others may go anywhere
    else:
        check_keys(where, node, {*taken, *others, "type", "_scope_"}, kind)
    for name in node.keys() & taken.keys():
        check_kind(f"{where}.{name}", node[name], taken[name])
    needed = {name for name, each in named_parameters(kind).items() if each.default is each.empty}
    if is_part and (lacks := needed - others - node.keys()):
        raise UserError(f"{where}: {kind.__name__} needs {' and '.join(sorted(lacks))}")


def check_kind(where: str, value: Any, parameter: Parameter) -> None:
    """Refuse a value of another kind than a parameter takes."""
    parameter = parameter.replace(annotation=_WIDER.get(parameter.name, parameter.annotation))
    if (words := expected(parameter, value)) is not None:
        shown = textwrap.shorten(repr(value), _LONGEST_VALUE, placeholder="...")
        raise UserError(f"{where} is {shown}, expected {words}")


def accepted_arguments(kind: Any, node: Mapping[str, Any]) -> dict[str, Parameter] | None:
    """Arguments of a class, whose ``**kwargs`` go to its bases, or of a function; None where any are taken.

    Args:
        kind: The class or function.
        node: The config of what it is to build.
    """
    taken: dict[str, Parameter] = {}
    for owner in getattr(kind, "__mro__", (kind,))[: -1 if isinstance(kind, type) else None]:
        call: Callable[..., Any] | None = vars(owner).get("__init__") if isinstance(owner, type) else owner
        taken = {**(named_parameters(call) if call else {}), **taken}
        if owner is CheckpointHook:
            return {**named_parameters(mmengine.runner.Runner.save_checkpoint), **taken}
        if owner is EMAHook:
            averaged = registries.found(registries.MODELS, node.get("ema_type", "ExponentialMovingAverage"))
            theirs = accepted_arguments(averaged, {}) if averaged else None
            return None if theirs is None else {**theirs, **taken}
        if call and all(each.kind is not each.VAR_KEYWORD for each in signature(call).parameters.values()):
            return taken
    return None


def check_keys(where: str, node: Mapping[str, Any], known: set[str], kind: Any = None) -> None:
    """Refuse a key of a dict that is not known."""
    for key in sorted(node.keys() - known, key=str):
        names = sorted(known - _NOT_TOLD)
        hint = did_you_mean(str(key), names, f"; it takes {', '.join(names)}")
        if kind and key in _arguments_of_namesake(kind):
            hint = f"; MMSegmentation's has: type='mmseg.{kind.__name__}'"
        what = f"{where}: {kind.__name__}" if kind else where
        raise UserError(f"{what} has no key {key!r}{hint} (where a base config brings it: write the part anew)")


def _arguments_of_namesake(kind: Any) -> set[str]:
    """Arguments of the class of MMSegmentation that one of this project has taken the name of."""
    name = kind.__name__
    theirs = [
        each.parent.module_dict.get(name) for each in REGISTRIES if each.module_dict.get(name) is kind and each.parent
    ]
    return set().union(*(accepted_arguments(other, {}) or () for other in theirs if other))
