"""MMRazor's losses and connectors, as ``mmrazor.<Name>``, from the installed package.

MMRazor 1.0.0 does not import beside PyTorch 2 and MMCV above 2.1: it asserts a version of MMCV, and its packages
import its pruning, search and quantization. Its distillation half needs none of that. So, when a ``mmrazor.`` type is
first asked for, bare modules stand in for those packages whose ``__init__`` imports the rest, and the files of the
distillation half run as they are. Nothing outside MMRazor's own names changes; one imported before is used as it is.

A pure-Python config imports the classes from here: ``from medseg_kd.distill.mmrazor_bridge import KLDivergence``.
"""

import difflib
import inspect
import sys
from contextlib import suppress
from functools import cache, partial
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch.nn.functional as F
from mmengine.registry import Registry
from mmengine.utils import apply_to, get_object_from_string
from mmseg.models.losses.utils import weight_reduce_loss
from torch import Tensor, nn

from medseg_kd.errors import UserError
from medseg_kd.registry import FINDERS, MODELS

_INSTALL = "pip install mmrazor==1.0.0"
_LOSSES = "mmrazor.models.losses"
_CONNECTORS = "mmrazor.models.architectures.connectors"
_DISTILLERS = "mmrazor.models.distillers"
# The distillation half, in the order in which its packages need each other.
_HALF = (
    _LOSSES,
    _CONNECTORS,
    "mmrazor.models.task_modules.recorder",
    "mmrazor.models.task_modules.delivery",
    _DISTILLERS,
    "mmrazor.models.algorithms.distill",
)
# Packages whose own __init__ imports the rest of MMRazor or refuses MMCV; parents first.
_INNER = ("architectures", "task_modules", "algorithms")
_STOOD_IN_FOR = ("mmrazor", "mmrazor.models", *(f"mmrazor.models.{name}" for name in _INNER))


def find(key: str) -> type:
    """A class of MMRazor's distillation half, by ``mmrazor.<Name>`` or its full path, as a dumped config has it.

    Raises:
        UserError: MMRazor is not installed or cannot be loaded, or has no such class.
    """
    try:
        models = _load()
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
    name = key.removeprefix("mmrazor.")
    found = get_object_from_string(key) if "." in name else models.module_dict.get(name)
    if not inspect.isclass(found):
        near = difflib.get_close_matches(name.split(".")[-1], names(), n=5, cutoff=0)
        shown = "".join(f"\n    mmrazor.{one}" for one in near)
        own = f" {name} is a type of this project: leave the prefix out." if name in MODELS.module_dict else ""
        raise UserError(
            f"{key} is not among the losses and connectors of MMRazor, which are what can be used of it here.{own} The "
            f"nearest names:{shown}"
        )
    return found


FINDERS["mmrazor"] = find


def __getattr__(name: str) -> type:
    """MMRazor's classes, loaded when they are asked for."""
    if not name[:1].isupper():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return find(f"mmrazor.{name}")


def names() -> list[str]:
    """Names of MMRazor's distillation losses and connectors."""
    _load()
    return [*sys.modules[_LOSSES].__all__, *sys.modules[_CONNECTORS].__all__]


def is_mmrazor(module: nn.Module) -> bool:
    """Whether a module is of one of MMRazor's own classes."""
    return type(module).__module__.startswith("mmrazor.")


def adapt(module: nn.Module) -> nn.Module:
    """Give a loss or connector of MMRazor contiguous tensors; others are returned as they are.

    MMRazor reshapes with ``view``, which fails on features of transformers and on channels-last ones.
    """
    if is_mmrazor(module):
        module.register_forward_pre_hook(_make_contiguous, with_kwargs=True)
    return module


def _make_contiguous(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    return apply_to((args, kwargs), lambda value: isinstance(value, Tensor), Tensor.contiguous)


def set_margin(connector: nn.Module, teacher: nn.Module, source: str) -> None:
    """Let MMRazor's ``OFDTeacherConnector`` take its margin from the teacher's batch norm; other connectors have none.

    The margin is taken when the connector first runs, because the teacher's weights are loaded late. ``source`` is the
    path of the module that is recorded, an error where it is no batch norm.
    """
    if not is_mmrazor(connector) or not hasattr(connector, "init_margin"):
        return
    norm = dict(teacher.named_modules()).get(source)
    if not isinstance(norm, (nn.BatchNorm2d, nn.SyncBatchNorm)):
        raise UserError(
            f"{type(connector).__name__} needs the output of a batch norm of the teacher, before its activation, but "
            f"records {source}, a {type(norm).__name__}. Record a BatchNorm2d"
        )

    def initialise(module: Any, inputs: Any) -> None:
        if module.margin is None:
            module.init_margin(sys.modules[_DISTILLERS].OFDDistiller._get_margin_from_BN(None, norm))

    connector.register_forward_pre_hook(initialise)


@cache
def _load() -> Registry:
    """Import the distillation half, once; MMRazor's registry of models."""
    spec = None
    with suppress(ImportError):
        spec = find_spec("mmrazor")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"MMRazor is not installed. {_INSTALL}")
    folder = Path(next(iter(spec.submodule_search_locations)))
    try:
        is_bare = _stand_in(folder)
        registry = resolve_name("mmrazor.registry")
        for each in vars(registry).values():
            if is_bare and isinstance(each, Registry):
                each._imported = True  # else it imports the rest of MMRazor when it is first asked
        for part in _HALF:
            resolve_name(f"{part}:")  # what stands before the colon is a module
        soft_ce: Any = sys.modules[f"{_LOSSES}.kd_soft_ce_loss"]
        if inspect.isclass(soft_ce.soft_cross_entropy):  # what stands for MMClassification's, where that is absent
            soft_ce.soft_cross_entropy = _soft_cross_entropy
    except Exception as error:  # whatever another version of MMRazor raises
        raise UserError(
            f"MMRazor's distillation half at {folder} does not load ({type(error).__name__}: {error}). {_INSTALL} "
            "gives the version that this is made for"
        ) from error
    return registry.MODELS


def _stand_in(folder: Path) -> bool:
    """Put bare modules where packages are that were not imported yet; whether ``mmrazor.models`` is one of them."""
    for name in _STOOD_IN_FOR:
        if name not in sys.modules:
            spec = ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [str(folder.joinpath(*name.split(".")[1:]))]
            bare = sys.modules[name] = module_from_spec(spec)
            bare.__getattr__ = partial(_loaded, name)  # type: ignore[method-assign]
            parent, _, child = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], child, bare)
    return isinstance(vars(sys.modules["mmrazor.models"]).get("__getattr__"), partial)


def _loaded(module: str, name: str) -> Any:
    """What a bare module has: the classes of the distillation half below it."""
    # Python asks for submodules here before it imports them, and for special names that a module may lack.
    if name.startswith("__") or find_spec(f"{module}.{name}"):
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    for part in _HALF:
        if part.startswith(f"{module}.") and name in getattr(sys.modules.get(part), "__all__", ()):
            return getattr(sys.modules[part], name)
    raise ImportError(
        f"{module}.{name} is not loaded: {__name__} has loaded MMRazor's distillation half alone, since MMRazor as a "
        "whole does not import beside this PyTorch and MMCV. Use the rest in a process of its own"
    )


def _soft_cross_entropy(
    pred: Tensor, label: Tensor, weight: Tensor | None = None, reduction: str = "mean", avg_factor: int | None = None
) -> Tensor:
    """Cross-entropy of logits ``pred`` (..., C) with class probabilities ``label`` (..., C); ``weight`` is (...)."""
    loss = -(label * F.log_softmax(pred, dim=-1)).sum(dim=-1)
    return weight_reduce_loss(loss, weight, reduction, avg_factor)
