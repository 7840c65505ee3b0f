"""A run of ``train.py`` and ``test.py``: its commands, and what is known of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg_kd.errors import UserError
from medseg_kd.files import write_text

_NO_VALIDATION = "train_cfg.val_begin=1000000000"

_STATE = "run.json"


@dataclass(frozen=True)
class Run:
    """One training and the test of its last checkpoint.

    Attributes:
        config: config file.
        work_dir: run folder, of this run alone.
        options: ``KEY=VALUE`` for ``--cfg-options`` of training and test.
        test_options: further ones of the test.
        data_root: data folder, if not the config's.
        amp: train in the device's native precision.
        teacher: the run whose checkpoint this one needs; it must come before.
    """

    config: str
    work_dir: Path
    options: tuple[str, ...] = ()
    test_options: tuple[str, ...] = ()
    data_root: str | None = None
    amp: bool = False
    teacher: "Run | None" = None

    @property
    def train_command(self) -> list[str]:
        """Words after ``python``."""
        amp = ["--amp"] if self.amp else []
        return ["train.py", *self._shared(), *amp, "--cfg-options", *self.options]

    @property
    def test_command(self) -> list[str]:
        """Words after ``python``."""
        return ["test.py", *self._shared(), "--cfg-options", *self.options, *self.test_options]

    @property
    def origin(self) -> list[list[str]]:
        """All that the result depends on: the commands of this run and of its teacher's."""
        return [self.train_command, self.test_command, *(self.teacher.origin if self.teacher else [])]

    def _shared(self) -> list[str]:
        data = ["--data-root", self.data_root] if self.data_root else []
        return [self.config, "--work-dir", str(self.work_dir), *data]


@dataclass(frozen=True)
class Settings:
    """What all runs of an experiment have in common; see :class:`Run`."""

    options: tuple[str, ...] = ()
    data_root: str | None = None
    amp: bool = False

    def run(
        self,
        config: str,
        work_dir: Path,
        options: Sequence[str],
        test_options: Sequence[str] = (),
        teacher: Run | None = None,
    ) -> Run:
        """A run with further options, which is scored at its end alone."""
        options = (*self.options, *options, _NO_VALIDATION)
        return Run(config, work_dir, options, tuple(test_options), self.data_root, self.amp, teacher)


def facts(run: Run) -> dict[str, Any]:
    """What a trained run took: ``seconds`` of its (last) training process, ``seconds_per_iteration``."""
    return _state(run)


def is_trained(run: Run) -> bool:
    """Whether the training was finished by :func:`execute`."""
    return "seconds" in _state(run)


def scores(run: Run, protocol: str = "transunet") -> dict[str, Any]:
    """The means of a tested run under one protocol, as ``metrics.json`` holds them."""
    return json.loads(_metrics(run).read_text(encoding="utf-8"))[protocol]


def is_tested(run: Run) -> bool:
    """Whether training and test were finished by :func:`execute`."""
    return is_trained(run) and _metrics(run).is_file()


def check_origin(run: Run) -> None:
    """Refuse a run folder whose content another command made."""
    if not run.work_dir.exists():
        return
    made = _state(run).get("origin")
    if made != run.origin:
        changed = [" ".join(command) for command in run.origin if command not in (made or [])]
        raise UserError(
            f"{run.work_dir} holds a run that was made in another way than\n    "
            + "\n    ".join(changed or [" ".join(run.train_command)])
            + "\nRemove that folder to make it again, or choose another folder for these runs"
        )


def write_state(run: Run, state: Mapping[str, Any]) -> None:
    """Replace what is known of the run folder's content."""
    write_text(run.work_dir / _STATE, json.dumps(state, indent=2) + "\n")


def _metrics(run: Run) -> Path:
    """Where the test leaves its means."""
    return run.work_dir / "test" / "metrics.json"


def _state(run: Run) -> dict[str, Any]:
    """What is known of the run folder's content."""
    file = run.work_dir / _STATE
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
