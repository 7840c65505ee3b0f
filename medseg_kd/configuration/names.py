"""The names at the top of a config: keys of a run, and variables of its files."""

import ast
import difflib
from collections.abc import Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any, Literal

import mmengine.runner
from mmengine.config import Config

from medseg_kd.configuration.kinds import named_parameters
from medseg_kd.errors import UserError


def _own(
    val_cases: str | Sequence[str] = (),
    sync_bn: Literal["torch", "mmcv"] | None = None,
    find_unused_parameters: bool = False,
    model_wrapper_cfg: dict[str, Any] | None = None,
    compile: bool | dict[str, Any] = False,
    activation_checkpointing: Any = None,
    runner_type: str | type = "medseg_kd.Runner",
    custom_imports: dict[str, Any] | None = None,
    cuda_graph: bool | Literal["auto"] = "auto",
    channels_last: bool | Literal["auto"] = "auto",
) -> None:
    """Keys of this project, and of MMEngine's that its runner does not take by their names."""


LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
TOP_LEVEL = {**named_parameters(mmengine.runner.Runner), **named_parameters(_own)}
"""Keys that mean something to a run, and what may stand there."""


def innermost(dataset: Any) -> list[Any]:
    """The data set of a config, or those that it wraps."""
    if not isinstance(dataset, MutableMapping):
        return []
    inner = [dataset[key] for key in ("dataset",) if key in dataset] + list(dataset.get("datasets") or ())
    return [each for one in inner for each in innermost(one)] or [dataset]


def lookalikes(cfg: Any) -> dict[str, str]:
    """Names at the top of a config that are nearly a key of a run, and that key."""
    own = cfg.keys() - TOP_LEVEL.keys() - getattr(cfg, "_imported_names", set())
    near = {name: difflib.get_close_matches(name, TOP_LEVEL, n=1, cutoff=0.8) for name in sorted(own)}
    return {name: keys[0] for name, keys in near.items() if keys}


def check_names(cfg: Any) -> None:
    """Refuse a misspelt key; a variable that the files of the config use may have any name.

    Raises:
        UserError: A name that is nearly a key is set and never used.
    """
    found = lookalikes(cfg)
    used = _used_names(Path(cfg.filename)) if found and getattr(cfg, "filename", None) else set()
    for name, key in found.items():
        if name not in used:
            raise UserError(
                f"{getattr(cfg, 'filename', None) or 'the config'}: {name} is no key of a config, and nothing uses it; "
                f"did you mean {key}?"
            )


def check_bases(file: Path, inheriting: tuple[Path, ...] = ()) -> None:
    """Refuse configs that inherit from each other in a circle, or in two styles.

    Args:
        file: The config.
        inheriting: The files that inherit from it.

    Raises:
        UserError: It names the files.
    """
    if file.suffix != ".py":
        return
    if file.resolve() in inheriting:
        circle = " -> ".join(each.name for each in (*inheriting[inheriting.index(file.resolve()) :], file))
        raise UserError(f"{file}: its bases go in a circle ({circle}): take one of them out")
    nodes = list(ast.walk(ast.parse(file.read_bytes(), str(file))))
    names = [getattr(node.targets[0], "id", "") for node in nodes if isinstance(node, ast.Assign)]
    is_lazy = any(isinstance(node, ast.With) and "read_base" in ast.dump(node.items[0]) for node in nodes)
    if is_lazy and "_base_" in names:
        raise UserError(f"{file} has both read_base() and _base_, of which _base_ would not be read: keep one of them")
    for base in _bases(file, nodes):
        if "_base_" in names and Config._is_lazy_import(str(base)):
            raise UserError(
                f"{file}: _base_ names {base}, a config in Python style. Inherit it in that style: "
                f"'with read_base():' and in it 'from .{base.stem} import *'"
            )
        check_bases(base, (*inheriting, file.resolve()))


def _used_names(file: Path) -> set[str]:
    """Names that a config file or one of its bases reads."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    used = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return used.union(*(_used_names(base) for base in _bases(file, nodes)))


def _bases(file: Path, nodes: list[ast.AST]) -> Iterator[Path]:
    """The files that a config inherits from, in Python style or in text style."""
    for node in nodes:
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.level and node.module:
            names = ["../" * (node.level - 1) + node.module.replace(".", "/") + ".py"]
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_base_":
            names = [str(each.value) for each in ast.walk(node.value) if isinstance(each, ast.Constant)]
        yield from (base for name in names if (base := file.parent / name).is_file())
