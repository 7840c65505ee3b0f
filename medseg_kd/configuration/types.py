"""What the ``type`` entries of a config name, and messages about those that name nothing."""

import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mmengine.registry import Registry

from medseg_kd import registry
from medseg_kd.errors import UserError, did_you_mean

_UNKNOWN = re.compile(r"(\S+) is not in the \w+::([\w ]+) registry")
_MISSING = 'must contain the key "type"'
_REGISTRIES = [value for value in vars(registry).values() if isinstance(value, Registry)]


@contextmanager
def type_errors_explained(cfg: Any) -> Iterator[None]:
    """Turn what the registries say of an unknown or missing ``type`` into a message that names the config.

    Raises:
        UserError: Something in the block was to be built from a type that is not registered, or from none.
    """
    try:
        yield
    except KeyError as error:
        text = str(error.args[0]) if error.args else ""
        if unknown := _UNKNOWN.match(text):
            raise unknown_type(cfg, *unknown.groups()) from error
        if _MISSING in text:
            raise UserError(f"{file_of(cfg)}: a part has no type: {text}") from error
        raise


def unknown_type(cfg: Any, name: str, kind: str) -> UserError:
    """The message for a type that the registries of a kind do not have, with the nearest that they do."""
    known = {each for registry in _REGISTRIES if registry.name == kind for each in _names(registry)}
    return UserError(
        f"{file_of(cfg)}: type={name!r} is not known as {kind}{did_you_mean(name, known, '.')} A class of your own is "
        "imported in the config and written without quotes: type=MyClass"
    )


def file_of(cfg: Any) -> str:
    """The file of a config, for messages."""
    return getattr(cfg, "filename", None) or "the config"


def accepted_arguments(node: Mapping[str, Any]) -> set[str]:
    """Arguments of the type that a config dict builds; none for a dict that builds nothing."""
    kind = node.get("type")
    if isinstance(kind, str):
        kind = next((found for each in _REGISTRIES if (found := each.get(kind))), None)
    if kind is None:
        return set()
    names: set[str] = set()
    for owner in getattr(kind, "__mro__", (kind,)):
        names |= set(inspect.signature(owner).parameters) if owner is not object else set()
    return names


def _names(registry: Registry) -> set[str]:
    """Names of a registry and of its parents."""
    return set(registry.module_dict) | (set() if registry.parent is None else _names(registry.parent))
