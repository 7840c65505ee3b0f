"""A bad input, and the rule that each must follow: one short message that names it, and nothing else."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.cli.commands import ROOT, command

MOST_LINES = 6
BASE = """
from mmengine.config import read_base

with read_base():
    from .configs.unet.unet_r18v1c_d8_40k_synapse import *

model.update(network=dict(backbone=dict(base_channels=8, stem_channels=8)))
train_cfg.update(max_iters=2, val_interval=2)
default_hooks.update(checkpoint=dict(interval=2))
for loader in (train_dataloader, val_dataloader, test_dataloader):
    loader.update(num_workers=0, persistent_workers=False, dataset=dict(data_root={root!r}))
"""
PAIR = """
from mmengine.config import read_base

with read_base():
    from .base import *
    from .configs._base_.distill.cwd import *

from medseg_kd.distill import SingleTeacherDistill

teacher = dict(**model)
model = dict(type=SingleTeacherDistill, architecture=model, teacher=teacher, teacher_ckpt="run", distiller=distiller)
"""
_INHERIT = "from mmengine.config import read_base\nwith read_base():\n    from .{} import *\n"


@dataclass
class Case:
    """A command in a home folder that has ``base.py``, ``pair.py`` and the trained ``run``.

    Attributes:
        name: Of the test.
        script: Of the repository.
        arguments: What it is called with.
        words: What the message must say.
        files: Names to what is written before; a function is called with the path.
        environment: Variables that are set; None: unset.
    """

    name: str
    script: str
    arguments: tuple[str, ...]
    words: tuple[str, ...]
    files: Mapping[str, str | bytes | Callable[[Path], object]] = field(default_factory=dict)
    environment: Mapping[str, str | None] = field(default_factory=dict)


def changed(line: str, *words: str, base: str = "base") -> Case:
    """A config that inherits a right one and has one wrong line; the message names its file."""
    return Case(line, "train.py", ("bad.py",), ("bad.py", *words), {"bad.py": _INHERIT.format(base) + line + "\n"})


def data(line: str, *words: str, base: str = "base") -> Case:
    """As :func:`changed`, where the message names a folder instead."""
    case = changed(line, base=base)
    return Case(case.name, case.script, case.arguments, words, case.files)


def config(name: str, text: str | bytes, *words: str, **others: str) -> Case:
    """A whole config, and others beside it by their names without ending."""
    files = {f"{other}.py": each for other, each in others.items()}
    return Case(name, "train.py", ("bad.py",), words, {"bad.py": text, **files})


def call(line: str, *words: str, **files: str) -> Case:
    """A command line: a script and its arguments, without quotes."""
    script, *arguments = line.split(" ")
    return Case(line, script, tuple(arguments), words, {f"{name}.py": text for name, text in files.items()})


def make_home(home: Path, data: Path) -> None:
    """A working directory with configs and a trained run."""
    (home / "configs").symlink_to(ROOT / "configs")
    (home / "phantom").symlink_to(data)
    (home / "base.py").write_text(BASE.format(root=str(data)))
    (home / "pair.py").write_text(PAIR)
    done = command("train.py", "base.py", "--work-dir", "run", cwd=home)
    assert done.returncode == 0, done.stderr


def home_of(path: Path) -> Path:
    """The working directory that a file of a case is written into."""
    return next(each for each in path.parents if (each / "base.py").is_file() and (each / "run").is_dir())


def data_of(path: Path) -> Path:
    """The data that are right."""
    return home_of(path) / "phantom"


def check(case: Case, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a case and check the rule."""
    for name, content in case.files.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    for name, value in case.environment.items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    before = _listing(home)
    done = command(case.script, *case.arguments, cwd=home)
    after = _listing(home)
    for name in case.files:
        _remove(home / name)
    told = done.stdout + done.stderr
    assert done.returncode not in (0, None) and done.returncode < 128, told
    assert "Traceback" not in told, told
    message = done.stderr[done.stderr.find("error: ") :].strip().splitlines()
    assert "error: " in done.stderr and 0 < len(message) <= MOST_LINES, told
    missing = [word for word in case.words if word not in " ".join(" ".join(message).split())]
    assert not missing, (missing, message)
    assert after == before, sorted(after.keys() ^ before.keys())


def _listing(home: Path) -> dict[str, int | None]:
    """All that lies in a folder: sizes of files."""
    found = sorted(path for path in home.rglob("*") if "__pycache__" not in path.parts)
    return {str(path.relative_to(home)): path.lstat().st_size if path.is_file() else None for path in found}


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
