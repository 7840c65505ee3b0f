"""Reading a config, and building its model."""

import traceback
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import DefaultScope
from mmengine.utils import import_modules_from_strings, is_installed

from medseg_kd.configs_dir import find_config
from medseg_kd.configuration.explaining import file_of, type_errors_explained
from medseg_kd.configuration.names import check_bases
from medseg_kd.configuration.openmmlab import settle_names
from medseg_kd.errors import UserError, first_line
from medseg_kd.registry import MODELS, found
from medseg_kd.signals import Stopped

if not is_installed("mmsegmentation"):
    MODULE2PACKAGE["mmseg"] = "onedl-mmsegmentation"  # so that _base_ = ["mmseg::..."] is found
_PARSER = Config.fromfile.__code__.co_filename


def read_config(name: str | Path) -> Config:
    """Read a config by its path, from here or from the packaged configs.

    Raises:
        UserError: No such file, or an error in it, whose file and line are told.
    """
    path = find_config(str(name))
    try:
        check_bases(path)
        cfg = Config.fromfile(path)
        settle_imports(cfg)
        settle_names(cfg, read_config)
        return cfg
    except SyntaxError as error:
        file = path if error.filename in (None, "<unknown>") else error.filename
        raise UserError(f"{file}, line {error.lineno}: {error.msg}") from error
    except (UserError, KeyboardInterrupt, Stopped):
        raise
    except BaseException as error:  # also SystemExit: the code of a config may end in anything
        where = _place(error) or f"{path} cannot be read as a config"
        raise UserError(f"{where}: {type(error).__name__}: {first_line(error)}") from error


def _place(error: BaseException) -> str:
    """The config file and line that an error comes from; empty where it comes from none."""
    lines = [
        f"{frame.f_code.co_filename}, line {line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_name == "<module>" and frame.f_back and frame.f_back.f_code.co_filename == _PARSER
    ]
    return lines[-1] if lines else ""


def settle_imports(cfg: Any) -> None:
    """Import what ``custom_imports`` names, as MMEngine does for text style alone, and drop modules and
    functions, which cannot be written."""
    if imports := cfg.get("custom_imports"):
        if not isinstance(imports, Mapping) or imports.keys() - {"imports", "allow_failed_imports"}:
            raise UserError(f"{file_of(cfg)}: custom_imports is {imports!r}, expected dict(imports=['my_module'])")
        import_modules_from_strings(**imports)
    for name in [key for key, value in cfg.items() if isinstance(value, (ModuleType, FunctionType))]:
        cfg.pop(name)


def build_model(cfg: Config) -> Any:
    """Build the model of a config.

    Raises:
        UserError: A type in it is not registered, or its parts do not fit together.
    """
    with type_errors_explained(cfg), DefaultScope.overwrite_default_scope(cfg.get("default_scope", "medseg_kd")):
        return MODELS.build(model_of(cfg))


def model_of(cfg: Any) -> Any:
    """The model of a config; a :class:`UserError` where there is none."""
    if cfg.get("model") is None:
        raise UserError(f"{file_of(cfg)} has no model: inherit a config that has one, or write model=dict(type=...)")
    return cfg["model"]


def brings_weights(model: Any) -> bool:
    """Whether a config is that of a segmentor with weights of its own, such as nnU-Net's, and no checkpoint."""
    kind = found(MODELS, model.get("type")) if isinstance(model, Mapping) else None
    return getattr(kind, "brings_weights", False)


def segmentor_of(model: Any) -> Any:
    """The segmentor that a model config trains: of a distillation the student, with the preprocessor that it gets."""
    student = model.get("architecture", model)
    if student is model or not model.get("data_preprocessor"):
        return student
    return type(student)({**student, "data_preprocessor": model["data_preprocessor"]})


def network_name(cfg: Config) -> str:
    """What a config calls its network."""
    model = segmentor_of(model_of(cfg))
    kind = model.get("network", model).get("type")
    return kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))
