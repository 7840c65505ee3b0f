"""What the ``type`` of a network or loss names."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from medseg_kd.errors import UserError, did_you_mean
from medseg_kd.registry import FINDERS, MODELS, MONAI


def find_type(cfg: Any, where: str, what: str) -> Callable[..., nn.Module]:
    """The class or function that builds a part.

    Args:
        cfg: ``dict(type=..., **arguments)``; the type is a class, a registered name or a dotted path.
        where: Its place in the config, for messages.
        what: What it should be, for messages.

    Raises:
        UserError: It names nothing.
    """
    if not isinstance(cfg, Mapping):
        raise UserError(f"{where} is {cfg!r}, expected dict(type=..., ...) or a module")
    kind = cfg.get("type")
    if callable(kind):
        finder = FINDERS.get(str(getattr(kind, "__module__", "")).partition(".")[0])
        return finder(f"{kind.__module__}.{kind.__name__}") if finder else kind
    try:
        found = MODELS.get(kind) if kind else None
    except RuntimeError:
        found = None
    if found is None:
        registry = MONAI if str(kind).startswith("monai.") else MODELS
        known = [name for name in registry.module_dict if ("Loss" in name) == (what == "loss")]
        hint = did_you_mean(str(kind).rpartition(".")[2], known, "; name a class, or a registered one by its name")
        raise UserError(f"{where}.type is {kind!r}, which is no {what}{hint}")
    return found
