"""Registries of the project: children of MMSegmentation's, which are children of MMEngine's.

A type that is not registered here is looked up in MMSegmentation, then in MMEngine, so that
``dict(type='mmseg.ResNetV1c')`` and, with ``default_scope = 'medseg_kd'``, ``dict(type='ResNetV1c')`` both resolve.
``locations`` names the packages that are imported when a type is first asked for. The kinds that the project adds
nothing to have a registry too: without one, MMEngine warns at each look-up. ``dict(type='monai.SegResNet')`` is one of
MONAI's networks, ``dict(type='smp.Unet')`` one of segmentation_models_pytorch.
"""

import contextlib
import inspect
import io
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import mmseg.registry
from mmengine.registry import Registry

from medseg_kd.errors import UserError, did_you_mean

FINDERS: dict[str, Callable[[str], Any]] = {}
"""Scope to what finds its types, for packages that have no registry to ask. Who finds them enters itself here."""


class _Registry(Registry):
    """A registry that asks :data:`FINDERS` first, and has MMSegmentation's names at hand without their prefix."""

    def get(self, key: str) -> Any:
        """See MMEngine's class."""
        if "." in key:
            MODELS.import_from_location()  # which brings the finders
        if find := FINDERS.get(key.partition(".")[0]):
            return find(key)
        if self.parent is not None and key not in self.module_dict:
            with _nothing_printed():
                self.parent.import_from_location()  # MMEngine looks into a parent without filling it
        return super().get(key)

    def import_from_location(self) -> None:
        """See MMEngine's class."""
        with _nothing_printed():
            super().import_from_location()


def _nothing_printed() -> contextlib.redirect_stdout[io.StringIO]:
    """MMSegmentation, when it is imported, prints what it has no package for, which nobody here asked for."""
    return contextlib.redirect_stdout(io.StringIO())


def found(registry: Registry, kind: Any) -> Any:
    """What a ``type`` stands for: itself, or what a registry has under this name."""
    return registry.get(kind) if isinstance(kind, str) else kind


def check_arguments(kind: Callable[..., Any], arguments: Mapping[str, Any], where: str) -> None:
    """Refuse arguments that a type does not take, and the lack of those that it needs, before it is built.

    Args:
        kind: A class or function.
        arguments: What it is to be called with.
        where: Its place in the config, for the message.

    Raises:
        UserError: The two do not fit; the message says what it takes.
    """
    signature = inspect.signature(kind)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        known = ", ".join(signature.parameters)
        raise UserError(
            f"{where}: {getattr(kind, '__name__', kind)}: {error}. It takes: {known or 'nothing'}"
        ) from error


def build_part(cfg: Any, where: str, **given: Any) -> Any:
    """Build a part of a model from its config, so that a wrong entry is told with its place.

    Args:
        cfg: ``dict(type=..., **arguments)``.
        where: Its place in the config, for messages.
        given: Further arguments, which no config has.

    Raises:
        UserError: There is no such type (the message holds the nearest names), or it refuses its arguments.
    """
    if not isinstance(cfg, Mapping) or "type" not in cfg:
        raise UserError(f"{where} is {cfg!r}, expected dict(type=..., ...)")
    kind = name = cfg["type"]
    if isinstance(name, str):
        with MODELS.switch_scope_and_registry(None) as registry:
            kind = registry.get(name)
    if not callable(kind):
        near = did_you_mean(str(name), MODELS.module_dict, " registered")
        raise UserError(f"{where}: there is no type {name!r}{near}")
    arguments = {key: value for key, value in cfg.items() if key not in ("type", "_scope_")}
    check_arguments(kind, {**arguments, **given}, where)
    try:
        return MODELS.build({**cfg, **given})
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def import_modules(package: str) -> None:
    """Import all modules of a package of this one, such as ``distill.methods``."""
    for module in _modules(package):
        import_module(module)


def _child(name: str, *locations: str) -> Registry:
    """A child of MMSegmentation's registry of this name."""
    parent = getattr(mmseg.registry, name)
    return _Registry(parent.name, parent=parent, scope="medseg_kd", locations=list(locations))


def _modules(package: str) -> list[str]:
    """All modules of a package, so that a new file in it is found without being named."""
    folder = Path(__file__).parent.joinpath(*package.split("."))
    return [f"medseg_kd.{package}.{module.name}" for module in iter_modules([str(folder)])]


MODELS = _child("MODELS", "medseg_kd.models", "medseg_kd.distill")
MONAI = Registry("model", parent=MODELS, scope="monai", locations=["medseg_kd.models.networks.monai_nets"])
FORMATS = Registry("format", scope="medseg_kd", locations=["medseg_kd.datasets.formats"])
"""Formats of data folders."""
DATASETS = _child("DATASETS", "medseg_kd.datasets.datasets")
TRANSFORMS = _child("TRANSFORMS", "medseg_kd.datasets.transforms", "mmseg.datasets.transforms")
DATA_SAMPLERS = _child("DATA_SAMPLERS", "medseg_kd.datasets.samplers")
METRICS = _child("METRICS", "medseg_kd.evaluation.volume_metric", "medseg_kd.evaluation.predictions")
MEASURES = Registry("measure", scope="medseg_kd", locations=_modules("evaluation.measures"))
"""What is measured of two objects."""
HOOKS = _child("HOOKS", "medseg_kd.engine")
LOG_PROCESSORS = _child("LOG_PROCESSORS", "medseg_kd.engine")
OPTIM_WRAPPERS = _child("OPTIM_WRAPPERS", "medseg_kd.engine")
RUNNERS = _child("RUNNERS", "medseg_kd.engine")
LOOPS = _child("LOOPS")
EVALUATOR = _child("EVALUATOR")
MODEL_WRAPPERS = _child("MODEL_WRAPPERS")
OPTIMIZERS = _child("OPTIMIZERS")
OPTIM_WRAPPER_CONSTRUCTORS = _child("OPTIM_WRAPPER_CONSTRUCTORS")
PARAM_SCHEDULERS = _child("PARAM_SCHEDULERS")
RUNNER_CONSTRUCTORS = _child("RUNNER_CONSTRUCTORS")
TASK_UTILS = _child("TASK_UTILS", "medseg_kd.inference.case", "medseg_kd.inference.nnunet_case")
VISBACKENDS = _child("VISBACKENDS", "medseg_kd.engine")
VISUALIZERS = _child("VISUALIZERS")
WEIGHT_INITIALIZERS = _child("WEIGHT_INITIALIZERS")
