"""A run: one training and the test of its last checkpoint, and what is known of it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg_kd.errors import UserError
from medseg_kd.files import write_text

_NO_VALIDATION = "train_cfg.val_begin=1000000000"


@dataclass(frozen=True)
class Settings:
    """What all runs of an experiment have in common; ``options`` are ``KEY=VALUE`` for the config."""

    options: tuple[str, ...] = ()
    data_root: str | None = None
    amp: bool = False


@dataclass(frozen=True)
class Run:
    """One training and the test of its last checkpoint; it is scored at its end alone.

    ``own`` and, of the test alone, ``own_test`` are further ``KEY=VALUE`` for the config. The run needs the checkpoint
    of its ``teacher``, which must come before it.
    """

    config: str
    work_dir: Path
    settings: Settings = Settings()
    own: tuple[str, ...] = ()
    own_test: tuple[str, ...] = ()
    teacher: "Run | None" = None

    @property
    def options(self) -> tuple[str, ...]:
        """``KEY=VALUE`` of training and test."""
        return (*self.settings.options, *self.own, _NO_VALIDATION)

    @property
    def origin(self) -> list[list[str]]:
        """All that the result depends on: the commands that would make this run and its teacher."""
        data = ["--data-root", self.settings.data_root] if self.settings.data_root else []
        shared = [self.config, "--work-dir", str(self.work_dir), *data]
        train = ["train.py", *shared, *(["--amp"] if self.settings.amp else []), "--cfg-options", *self.options]
        test = ["test.py", *shared, "--cfg-options", *self.options, *self.own_test]
        return [train, test, *(self.teacher.origin if self.teacher else [])]

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of the folder: its ``origin``, and of a trained run ``seconds``, ``seconds_per_iteration``."""
        file = self.work_dir / "run.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    def note(self, **facts: float) -> None:
        """Replace what is known of the folder."""
        write_text(self.work_dir / "run.json", json.dumps({"origin": self.origin, **facts}, indent=2) + "\n")

    @property
    def is_trained(self) -> bool:
        """Whether the training was finished."""
        return "seconds" in self.facts

    @property
    def is_tested(self) -> bool:
        """Whether training and test were finished."""
        return self.is_trained and (self.work_dir / "test/metrics.json").is_file()

    def scores(self, protocol: str = "transunet") -> dict[str, Any]:
        """The means of a tested run under one protocol, as ``metrics.json`` holds them."""
        return json.loads((self.work_dir / "test/metrics.json").read_text(encoding="utf-8"))[protocol]

    def check_origin(self) -> None:
        """Refuse a run folder whose content another command made."""
        made = self.facts.get("origin")
        if self.work_dir.exists() and made != self.origin:
            changed = [" ".join(command) for command in self.origin if command not in (made or [])]
            raise UserError(
                f"{self.work_dir} holds a run that was made in another way than\n    "
                + "\n    ".join(changed or [" ".join(self.origin[0])])
                + "\nRemove that folder to make it again, or choose another folder for these runs"
            )
