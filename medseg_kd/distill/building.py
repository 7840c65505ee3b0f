"""Building a distiller and its parts from a config, so that a wrong entry is told with its place."""

from collections.abc import Mapping
from typing import Any

from medseg_kd.errors import UserError, did_you_mean
from medseg_kd.registry import MODELS, check_arguments


def build_part(cfg: Any, where: str, **given: Any) -> Any:
    """Build a distiller, recorder, connector or loss.

    Args:
        cfg: ``dict(type=..., **arguments)``.
        where: Its place in the config, for messages.
        given: Further arguments, which no config has.

    Raises:
        UserError: There is no such type (the message holds the nearest names), or it refuses its arguments.
    """
    if not isinstance(cfg, Mapping) or "type" not in cfg:
        raise UserError(f"{where} is {cfg!r}, expected dict(type=..., ...)")
    arguments = {key: value for key, value in cfg.items() if key not in ("type", "_scope_")}
    kind = _find(cfg["type"], where)
    check_arguments(kind, {**arguments, **given}, where)
    try:
        return MODELS.build({**cfg, **given})
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _find(kind: Any, where: str) -> Any:
    """The class that a ``type`` names."""
    if not isinstance(kind, str):
        return kind
    with MODELS.switch_scope_and_registry(None) as registry:
        found = registry.get(kind)
    if found is None:
        raise UserError(f"{where}: there is no type {kind!r}{did_you_mean(kind, MODELS.module_dict, ' registered')}")
    return found
