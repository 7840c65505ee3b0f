"""The config file of a teacher-student pair: which models, which method, nothing else."""

import keyword
import os
import re
from collections.abc import Iterable
from pathlib import Path

from medseg_kd.configs_dir import configs_dir
from medseg_kd.distill.methods.base import METHODS
from medseg_kd.errors import UserError, did_you_mean

_TEMPLATE = """\
from mmengine.config import read_base

with read_base():
    from {student} import *
    from {teacher} import model as teacher
{recipe}
from medseg_kd.distill import SingleTeacherDistill

run = {run}
{changes}\
model = dict(type=SingleTeacherDistill, architecture=model, teacher=teacher, teacher_ckpt=run, distiller=distiller)
"""


def find_method(name: str) -> Path:
    """The config of a method, its name in any case; the bare name of a method that has none in ``_base_/distill``.

    Raises:
        UserError: There is no such method; the message names the nearest, or all.
    """
    methods = {each.lower(): Path(each) for each in METHODS}
    methods |= {path.stem.lower(): path for path in sorted((configs_dir() / "_base_/distill").glob("*.py"))}
    if name.lower() not in methods:
        hint = did_you_mean(name.lower(), methods, f"; there are {', '.join(methods)}")
        raise UserError(f"there is no method {name!r}{hint}")
    return methods[name.lower()]


def default_path(method: Path, teacher: Path, student: Path) -> Path:
    """``configs/distill/<method>/<method>_<teacher>_<student>.py``; what both names end with is said once."""
    words, others = teacher.stem.split("_"), student.stem.split("_")
    shared = len(os.path.commonprefix([words[:0:-1], others[::-1]]))
    folders = {folder.name.lower(): folder.name for folder in (configs_dir() / "distill").iterdir()}
    name = "_".join((method.stem, *words[: len(words) - shared], *others))
    return Path("configs/distill", folders.get(method.stem, method.stem), f"{name}.py")


def pair_config(
    method: Path, teacher: Path, student: Path, out: Path, run: str | None, changes: Iterable[str] = ()
) -> str:
    """Text of a pair's config, from the configs of both and what :func:`find_method` gives.

    Args:
        out: Where the text is to lie: its imports are relative to it.
        run: The teacher's run folder; None for one that brings its weights.
        changes: Lines between the imports and the model.

    Raises:
        UserError: A path cannot be written as an import.
    """
    models = {"student": _module(student, out), "teacher": _module(teacher, out)}
    if method.suffix:
        recipe = f"    from {_module(method, out)} import *\n"
    else:
        recipe, changes = "", (f'distiller = dict(type="{method}")', *changes)
    return _TEMPLATE.format(
        **models, recipe=recipe, run=f'"{run}"' if run else run, changes="".join(f"{line}\n" for line in changes)
    )


def _module(config: Path, out: Path) -> str:
    """The import of ``config`` in the file ``out``: relative, or from the installed package."""
    if re.search(r"^_base_\s*=", config.read_text(encoding="utf-8"), re.MULTILINE):
        raise UserError(
            f"{config} inherits in text style (_base_ = ...), so a pure-Python config cannot import it. Write it out "
            'once and name that file instead:\n    python -c "from mmengine.config import Config; '
            f"Config.fromfile('{config}').dump('{config.stem}_flat.py')\""
        )
    source, folder = config.resolve().with_suffix(""), out.resolve().parent
    parts = Path(os.path.relpath(source, folder)).parts
    up = parts.count("..")
    if problem := next((part for part in parts[up:] if not part.isidentifier() or keyword.iskeyword(part)), None):
        package = Path(__file__).resolve().parents[1]
        if source.is_relative_to(package):
            return ".".join((package.name, *source.relative_to(package).parts))
        raise UserError(
            f"{out} cannot import {config}: {problem!r} on the way from one to the other is no Python name. Rename it, "
            "or write the pair beside the config with --out"
        )
    return "." * (up + 1) + ".".join(parts[up:])
