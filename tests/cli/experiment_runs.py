"""Small configs, and runs whose processes are forked."""

import multiprocessing
import os
import sys
from pathlib import Path

import pytest
import submitit.local.local
import torch
from submitit.core.submission import process_job

from medseg_kd.experiments.executors import _SlurmJob
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
    """Stands for the process that submitit starts for a local run: what it imports is there already."""

    alive: list["Forked"]
    started: list[Path]
    """Run folders."""

    def __init__(self, folder: Path) -> None:
        self.started.append(folder.parent)
        self.alive.append(self)
        self.process = multiprocessing.get_context("fork").Process(target=self.work, args=(folder,))
        self.process.start()
        self.pid = self.process.pid

    def poll(self) -> int | None:
        self.process.join(0)
        return self.process.exitcode

    def work(self, folder: Path) -> None:
        """Do what the process would do."""
        os.environ.update(SUBMITIT_EXECUTOR="local", SUBMITIT_LOCAL_JOB_ID=str(os.getpid()))
        sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
        torch.set_num_threads(1)
        process_job(folder)


def fork_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork local runs, and count them in ``Forked.started``."""
    monkeypatch.setattr(Forked, "started", [], raising=False)
    monkeypatch.setattr(Forked, "alive", [], raising=False)
    monkeypatch.setattr(submitit.local.local, "start_controller", lambda folder, **_: Forked(folder))


def fork_own_runs() -> None:
    """The same for good, in a process of its own, which does not wait long for results that nobody writes."""
    fork_runs(pytest.MonkeyPatch())
    submitit.Job._results_timeout_s = 1
    _SlurmJob.watcher._delay_s = 1


def write_config(folder: Path, name: str, width: int, iterations: int = 2) -> None:
    """Write ``<name>.py`` into a folder that has a link to the configs."""
    link = folder / "configs"
    if not link.exists():
        link.symlink_to(ROOT / "configs")
    (folder / f"{name}.py").write_text(TINY.format(width=width, iterations=iterations))
