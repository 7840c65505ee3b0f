"""What goes wrong while the parts of a config are built and used, as a message that names the config."""

import inspect
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.registry import Registry
from mmengine.registry.build_functions import build_from_cfg

from medseg_kd.configuration.arguments import KNOWN_CODE, REGISTRIES
from medseg_kd.configuration.names import TOP_LEVEL
from medseg_kd.errors import UserError, did_you_mean, explanation, in_short

_OTHERS = "mmcv monai mmrazor segmentation_models_pytorch timm einops numpy scipy"
LIBRARIES = (*KNOWN_CODE, *(f"{name}." for name in _OTHERS.split()))


@contextmanager
def type_errors_explained(cfg: Any, building: bool = True) -> Iterator[None]:
    """Turn what is said of a part that cannot be built into a message that names the config.

    Args:
        cfg: The config.
        building: All in the block comes from the config; otherwise data are read too, whose files messages name.

    Raises:
        UserError: Something in the block was to be built from a type that is not registered, from none, or with values
            that a class does not take. Errors in classes of the user's own stay what they are.
    """
    try:
        yield
    except UserError as error:
        first = str(error).partition(":")[0].partition(".")[0].partition("[")[0].partition(" ")[0].partition("=")[0]
        if (building or first in {*TOP_LEVEL, "dataset"} or "model." in str(error)) and file_of(cfg) not in str(error):
            error.args = (f"{file_of(cfg)}: {error}",)
        raise
    except Exception as error:
        text = str(error.args[0]) if error.args else ""
        name, unknown, registry = text.partition(" is not in the ")
        if isinstance(error, KeyError) and unknown:
            raise unknown_type(cfg, name, registry.partition("::")[2].partition(" registry")[0]) from error
        if isinstance(error, KeyError) and 'must contain the key "type"' in text:
            raise UserError(f"{file_of(cfg)}: a part has no type: {text}") from error
        if explanation(error) is None and (refused := _refused(error)):
            raise UserError(f"{file_of(cfg)}: {refused} cannot be built: {in_short(error)}") from error
        if isinstance(error, ImportError) and "pip install" in text:  # of a part that needs a package
            raise UserError(f"{file_of(cfg)}: {text}") from error
        raise


def _refused(error: BaseException) -> str:
    """The class and its plain arguments, where it was being built and no code of the user's own ran in it."""
    found = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        name = frame.f_globals.get("__name__", "")
        if frame.f_code is build_from_cfg.__code__ and inspect.isclass(kind := frame.f_locals.get("obj_cls")):
            plain = {
                key: value for key, value in frame.f_locals["args"].items() if isinstance(value, (str, int, float))
            }
            found = f"{kind.__name__}({', '.join(f'{key}={value!r}' for key, value in plain.items())})"
        elif not is_library(name):
            found = ""
    return found


def is_library(module: str) -> bool:
    """Whether a module is none of the user's own."""
    return module.startswith(LIBRARIES) or module.partition(".")[0] in {*sys.stdlib_module_names, ""}


def unknown_type(cfg: Any, name: str, kind: str) -> UserError:
    """The message for a type that the registries of a kind do not have, with the nearest that they do."""
    own = [each for each in REGISTRIES if each.name == kind]
    at = f"{file_of(cfg)}: type={name!r} is not known as {kind}"
    if any(name in each.module_dict for each in own):
        return UserError(f"{at} in default_scope={cfg.get('default_scope')!r}: write type='medseg_kd.{name}'")
    hint = did_you_mean(name, {known for each in own for known in _names(each)}, ".")
    return UserError(
        f"{at}{hint} A class of your own is imported in the config and written without quotes: type=MyClass"
    )


def file_of(cfg: Any) -> str:
    """The file of a config, for messages."""
    return getattr(cfg, "filename", None) or "the config"


def _names(registry: Registry) -> set[str]:
    """Names of a registry and of its parents."""
    return set(registry.module_dict) | (set() if registry.parent is None else _names(registry.parent))
