"""Configs of MMSegmentation and MMRazor: their scopes, model files and loops said in this project's names."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import mmengine.registry
from mmengine.config import Config
from mmengine.logging import print_log
from mmseg.models import data_preprocessor as theirs

from medseg_kd.configuration.explaining import file_of
from medseg_kd.errors import UserError, first_line
from medseg_kd.models.mmseg_preprocessor import SegDataPreProcessor
from medseg_kd.registry import MODELS

_LOOPS = ("mmrazor.SingleTeacherDistillValLoop", "mmrazor.SelfDistillValLoop")
_FIXED = {"teacher_trainable": False, "teacher_norm_eval": True, "student_trainable": True}
_FIXED |= {"teacher_module_inplace": False}
_PREPROCESSOR = f"medseg_kd.{SegDataPreProcessor.__name__}"


def settle_names(cfg: Any, read: Callable[[str], Any]) -> None:
    """Say what a config of others names in names that mean the same in any scope; twice is as once.

    Files that ``cfg_path`` names are ``read``, and what stands beside it goes into their model.

    Raises:
        UserError: A file has no model or cannot be read, or MMRazor's algorithm is to do what this one never does.
    """
    model = cfg.get("model")
    if not isinstance(model, MutableMapping):
        return
    if model.get("_scope_") == "mmrazor" or str(model.get("type")).startswith("mmrazor."):
        _translate(model, file_of(cfg))
    for key in ("val_cfg", "test_cfg"):
        if (cfg.get(key) or {}).get("type") in _LOOPS:
            cfg[key]["type"] = "ValLoop"
            print_log(f"{key}: the student alone is scored; score the teacher once with test.py and its own config")
    for owner, key in [(model, "architecture"), (model, "teacher"), *((e, "model") for e in _teachers(model))]:
        if isinstance(part := owner.get(key), Mapping) and "cfg_path" in part:
            owner[key] = _model_of(part, f"{file_of(cfg)}: model.{key}", read)
    scope = cfg.get("default_scope", "medseg_kd")
    _qualify(model, scope)
    if scope != "medseg_kd" and isinstance(kind := model.get("type"), str) and kind in MODELS.module_dict:
        model["_scope_"] = "medseg_kd"  # whatever the scope of the run


def _teachers(model: Mapping[str, Any]) -> Iterator[Any]:
    return (each for each in model.get("teachers") or () if isinstance(each, MutableMapping))


def _translate(model: MutableMapping[str, Any], file: str) -> None:
    """A model in MMRazor's scope, its losses and connectors with their prefix, all else without."""
    scoped = model.pop("_scope_", None) == "mmrazor"
    for key, value in _FIXED.items():
        if model.pop(key, value) != value:
            raise UserError(f"{file}: model.{key} is {not value}, expected {value}: see docs/mmrazor.md")
    distiller = model.get("distiller") or {}
    recorders = [*(distiller.get(f"{whose}_recorders") or {} for whose in ("student", "teacher"))]
    for part in (model, distiller, *(each for some in recorders for each in some.values())):
        if isinstance(part.get("type"), str):
            part["type"] = part["type"].removeprefix("mmrazor.")
    taken = [*(distiller.get("distill_losses") or {}).values(), *(distiller.get("connectors") or {}).values()]
    for part in (each for one in taken for each in (one if isinstance(one, (list, tuple)) else [one])):
        if scoped and isinstance(part.get("type"), str) and "." not in part["type"]:
            part["type"] = f"mmrazor.{part['type']}"


def _model_of(part: Mapping[str, Any], where: str, read: Callable[[str], Any]) -> Any:
    """The model of a file that ``cfg_path`` names, with what stands beside it, in the names of the file's scope."""
    path, changes = part["cfg_path"], {**part}
    if changes.pop("pretrained", False):
        raise UserError(f"{where}.pretrained: name the checkpoint instead, the teacher's in model.teacher_ckpt")
    changes.pop("cfg_path")
    try:
        file, scope = Config._get_cfg_path(path, "")
    except (ImportError, OSError) as error:  # no such package, or no such file in it
        raise UserError(f"{where}.cfg_path is {path!r}: {first_line(error)}") from error
    cfg = read(file)
    if cfg.get("model") is None:
        raise UserError(f"{where}.cfg_path: {file} has no model")
    inner = Config({"model": cfg.model})
    if "data_preprocessor" in cfg and not inner.model.get("data_preprocessor"):
        inner.model.data_preprocessor = cfg.data_preprocessor
    inner.merge_from_dict({"model": changes})
    _qualify(inner.model, scope or cfg.get("default_scope", "medseg_kd"))
    return inner.model


def _qualify(node: Any, scope: Any) -> None:
    """Write ``mmseg.UNet`` where ``UNet`` is that of MMSegmentation, and not the one of this project."""
    if isinstance(node, (list, tuple)):
        for each in node:
            _qualify(each, scope)
    if not isinstance(node, MutableMapping):
        return
    scope, kind = node.get("_scope_", scope), node.get("type")
    registry = mmengine.registry.MODELS.children.get(scope)
    if registry is not None:
        MODELS.import_from_location()  # which fills it
    if isinstance(kind, str) and kind in MODELS.module_dict and registry is not None:
        found = registry.get(kind)
        if found is not None and found is not MODELS.module_dict[kind]:
            node["type"] = f"{scope}.{kind}"
    if node.get("type") in (theirs.SegDataPreProcessor, "mmseg.SegDataPreProcessor"):
        node["type"] = _PREPROCESSOR
    for value in node.values():
        _qualify(value, scope)
