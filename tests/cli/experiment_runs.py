"""Small configs, and processes that are forked: what they import is there already."""

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from medseg_kd.cli import run, test, train
from tests.cli.commands import ROOT

TINY = """\
from mmengine.config import read_base

with read_base():
    from .configs.demo.unet_r18_phantom import *

model.update(network=dict(backbone=dict(base_channels={width}, stem_channels=8)))
train_cfg.update(max_iters={iterations})
default_hooks.update(logger=dict(interval=1))
for loader in (train_dataloader, val_dataloader, test_dataloader):
    loader.update(num_workers=0, persistent_workers=False)
train_dataloader.update(batch_size=2)
"""


class Forked:
    """Stands for the ``subprocess.Popen`` of a command."""

    started: list[list[str]]

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.started.append(list(command))
        self.process = multiprocessing.get_context("fork").Process(target=_call, args=(command, log, environment))
        self.process.start()

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

    def terminate(self) -> None:
        self.process.terminate()

    def wait(self) -> None:
        self.process.join()


def write_config(folder: Path, name: str, width: int, iterations: int = 2) -> None:
    """Write ``<name>.py`` into a folder that has a link to the configs."""
    link = folder / "configs"
    if not link.exists():
        link.symlink_to(ROOT / "configs")
    (folder / f"{name}.py").write_text(TINY.format(width=width, iterations=iterations))


def _call(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    with log.open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        sys.stdout = sys.stderr = output
        main = {"train.py": train.main, "test.py": test.main}[command[0]]
        run(lambda: main(list(command[1:])))
