"""The model of a checkpoint, built from what the checkpoint says, of which nothing is run as code."""

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.registry import DefaultScope, Registry

from medseg_kd.configuration.reading import segmentor_of
from medseg_kd.datasets.datasets import checked_size
from medseg_kd.errors import UserError, first_line
from medseg_kd.models.checkpoint import load_weights
from medseg_kd.models.mmseg_adapter import build_segmentor
from medseg_kd.models.networks import smp_nets
from medseg_kd.registry import MODELS, MONAI, TASK_UTILS

_PARTS = ("model", "test_dataloader")
_START = ("init_cfg", "pretrained", "pretrained_url", "checkpoint", "checkpoint_path", "encoder_weights", "_scope_")
"""Arguments that say where training starts from: the checkpoint has all weights."""
_ELSEWHERE = re.compile(r"[/\\:]|\.(pth|pt|pkl|py|ya?ml|json|ckpt|bin)$")
"""A file or an address, which a network would read or fetch when it is built."""


def saved_config(text: Any, where: str) -> dict[str, Any]:
    """``model`` and ``test_dataloader`` of a config that was written as text, or is plain already, as plain containers.

    Text is read, never run: only literals and ``dict(...)`` are understood.

    Raises:
        UserError: There is none, or a value is anything else.
    """
    if isinstance(text, Mapping):
        return {name: text[name] for name in _PARTS if name in text}
    try:
        assigned = {
            target.id: node.value
            for node in ast.parse(text).body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        return {name: _value(assigned[name]) for name in _PARTS if name in assigned}
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise UserError(
            f"{where}: the config in it is not one of plain values ({first_line(error)}), and is not run. Predict with "
            "`python test.py CONFIG CHECKPOINT --save-predictions`, which takes the config from you"
        ) from error


def saved_reading(config: Mapping[str, Any], where: str) -> tuple[tuple[int, int] | None, Any]:
    """The (height, width) that slices were resized to when they were read, and the axes of h5 volumes; None: neither.

    Args:
        config: As :func:`saved_config` gives it.
        where: The checkpoint, for messages.

    Raises:
        UserError: One of the parts that lead there is no dict, or the size none.
    """
    data = _dict(_dict(config, "test_dataloader", where), "dataset", where)
    try:
        size = None if data.get("size") is None else checked_size(data["size"])
    except UserError as error:
        raise UserError(f"{where}: in the config in it {error}") from error
    return size, _dict(data, "format_options", where).get("axes")


def _dict(config: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    """A dict in a dict; an empty one where there is none."""
    found = config.get(key)
    if found is not None and not isinstance(found, Mapping):
        raise UserError(f"{where}: in the config in it {key} is {found!r}: expected a dict. Train it with train.py")
    return found or {}


def saved_model(model: Any, weights: Mapping[str, Any], where: str) -> Any:
    """The segmentor of a checkpoint in eval mode; of a distillation the student.

    Args:
        model: As :func:`saved_config` gives it.
        weights: Name to tensor.
        where: The checkpoint, for messages.

    Raises:
        UserError: A type in it is not registered, or the weights do not fit.
    """
    if not isinstance(model, Mapping):
        raise UserError(f"{where} does not say what its model is: no meta['cfg'] with a model. Train it with train.py")
    MODELS.import_from_location()
    student = segmentor_of(model)
    trusted = _trusted({**student, "losses": None} if "losses" in student else student, where)
    try:
        with DefaultScope.overwrite_default_scope("medseg_kd"):
            built = build_segmentor(trusted)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    # Networks of many libraries raise what they like for arguments that they do not take.
    except Exception as error:
        raise UserError(f"{where}: its model cannot be built ({first_line(error)})") from error
    load_weights(built, weights, where)
    return built.eval()


def _value(node: ast.expr | None) -> Any:
    """What a literal, or ``dict(...)`` of them, stands for; a ValueError for anything else."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
        node = ast.Dict(
            [ast.Constant(each.arg) if each.arg else None for each in node.keywords],
            [each.value for each in node.keywords],
        )
    if isinstance(node, ast.Dict):
        return {_value(key): _value(value) for key, value in zip(node.keys, node.values, strict=True)}
    if isinstance(node, (ast.List, ast.Tuple)):
        values = [_value(each) for each in node.elts]
        return values if isinstance(node, ast.List) else tuple(values)
    if node is None:
        raise ValueError("it unpacks with **")
    return ast.literal_eval(node)


def _trusted(value: Any, where: str) -> Any:
    """A part of a model config whose types are registered classes; names are looked up and never imported."""
    if isinstance(value, (list, tuple)):
        return type(value)(_trusted(each, where) for each in value)
    if isinstance(value, str) and _ELSEWHERE.search(value):
        raise UserError(
            f"{where}: its model names {value!r}; what is not in the checkpoint is neither read nor fetched"
        )
    if not isinstance(value, Mapping):
        return value
    kept = {key: _trusted(each, where) for key, each in value.items() if key not in (*_START, "type")}
    return {**kept, "type": _kind(value["type"], where)} if "type" in value else kept


def _kind(name: Any, where: str) -> Any:
    """The registered class that a name (``UNet``) or a path (``medseg_kd.models.UNet``) stands for."""
    package, _, bare = str(name).rpartition(".")
    if package.split(".")[0] in smp_nets.SCOPES:
        return smp_nets.find(f"smp.{bare}")
    MONAI.import_from_location()
    for registry in (*_with_parents(MODELS), MONAI, *_with_parents(TASK_UTILS)):
        found = registry.module_dict.get(bare)
        if found is not None and package.split(".")[0] in ("", registry.scope, found.__module__.split(".")[0]):
            return found
    raise UserError(
        f"{where}: its model has a part of type {name!r}, which is not registered here. Import the module that "
        "registers it before; a name in a checkpoint is never imported"
    )


def _with_parents(registry: Registry | None) -> Iterator[Registry]:
    """A registry and those that it asks next."""
    while registry is not None:
        registry.import_from_location()
        yield registry
        registry = registry.parent
