"""Reading a config, and building its model."""

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE, ConfigParsingError
from mmengine.registry import DefaultScope
from mmengine.utils import import_modules_from_strings, is_installed

from medseg_kd.configs_dir import configs_dir
from medseg_kd.configuration.explaining import file_of, type_errors_explained
from medseg_kd.errors import UserError, did_you_mean
from medseg_kd.registry import MODELS

if not is_installed("mmsegmentation"):
    MODULE2PACKAGE["mmseg"] = "onedl-mmsegmentation"  # so that _base_ = ["mmseg::..."] is found
# What the code of a config may end in.
_BROKEN = (
    ConfigParsingError,
    ImportError,
    NameError,
    TypeError,
    LookupError,
    AttributeError,
    ValueError,
    RecursionError,
)


def read_config(name: str | Path) -> Config:
    """Read a config by its path, from here or from the packaged configs.

    Raises:
        UserError: No such file, or an error in it, whose file and line are told.
    """
    path = _find(str(name))
    try:
        cfg = Config.fromfile(path)
        settle_imports(cfg)
        return cfg
    except SyntaxError as error:
        file = path if error.filename in (None, "<unknown>") else error.filename
        raise UserError(f"{file}, line {error.lineno}: {error.msg}") from error
    except _BROKEN as error:
        raise UserError(f"{path} cannot be read as a config: {type(error).__name__}: {error}") from error


def settle_imports(cfg: Any) -> None:
    """Import what ``custom_imports`` names, as MMEngine does for text style alone, and drop modules, which cannot be
    copied."""
    if imports := cfg.get("custom_imports"):
        if not isinstance(imports, Mapping) or imports.keys() - {"imports", "allow_failed_imports"}:
            raise UserError(f"{file_of(cfg)}: custom_imports is {imports!r}, expected dict(imports=['my_module'])")
        import_modules_from_strings(**imports)
    for name in [key for key, value in cfg.items() if isinstance(value, ModuleType)]:
        cfg.pop(name)


def build_model(cfg: Config) -> Any:
    """Build the model of a config.

    Raises:
        UserError: A type in it is not registered, or its parts do not fit together.
    """
    with type_errors_explained(cfg), DefaultScope.overwrite_default_scope(cfg.get("default_scope", "medseg_kd")):
        return MODELS.build(cfg.model)


def segmentor_of(model: Any) -> Any:
    """The segmentor that a model config trains: of a distillation the student, with the preprocessor that it gets."""
    student = model.get("architecture", model)
    if student is model or not model.get("data_preprocessor"):
        return student
    return type(student)({**student, "data_preprocessor": model["data_preprocessor"]})


def network_name(cfg: Config) -> str:
    """What a config calls its network."""
    model = segmentor_of(cfg.model)
    kind = model.get("network", model).get("type")
    return kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))


def _find(name: str) -> Path:
    """A config by its path, from here or from the packaged configs."""
    path = Path(name)
    if path.is_file():
        return path
    packaged = configs_dir() / Path(*path.parts[1:] if path.parts[:1] == ("configs",) else path.parts)
    if packaged.is_file():
        return packaged
    names = [found.as_posix() for found in Path("configs").rglob("*.py") if "_base_" not in found.parts]
    raise UserError(f"config not found: {name}{did_you_mean(path.as_posix(), names, in_lines=True)}")
