"""A run that is killed at any moment goes on from a whole checkpoint and ends as if nothing had happened."""

import gc
import io
import itertools
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from medseg_kd.configuration import resume
from medseg_kd.datasets import SliceDataset
from medseg_kd.datasets.cached_slices import CachedSlices
from medseg_kd.distill import KD, SingleTeacherDistill
from medseg_kd.engine import Runner
from medseg_kd.models.checkpoint import last_whole_checkpoint
from tests.engine.test_runner import _equal
from tests.engine.tiny import tiny_config
from tests.fork_server import running_server

_ITERATIONS = 5
# Steps of saving that a process may reach before it is killed: one checkpoint has seven, the best one four more.
_STEPS = 24
_SECONDS = 240


def _train(phantom: Path, folder: Path, teacher: Path | None, step: int | None, anew: bool = False) -> None:
    """Train, or go on, with a checkpoint after each iteration; die at the given step of saving."""
    torch.set_num_threads(1)
    gc.freeze()  # what is imported is not looked through again
    if step is not None:
        _die_at(step)
    cfg = tiny_config(phantom, folder, _ITERATIONS)
    cfg.train_cfg.val_interval = 2
    cfg.default_hooks.checkpoint.update(interval=1, max_keep_ckpts=1)
    if teacher is not None:
        student = cfg.model
        cfg.model = dict(
            type=SingleTeacherDistill,
            architecture=student,
            teacher=student,
            teacher_ckpt=str(teacher),
            distiller=dict(type=KD),
        )
    if not anew:
        resume(cfg)
    Runner.from_cfg(cfg).train()


def _die_at(step: int) -> None:
    """Let the process kill itself before the given step of saving, or in the middle of it."""
    steps = iter(range(1, step + 1))

    def mortal(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            if next(steps, step) == step:
                if name == "save":
                    whole = io.BytesIO()
                    function(args[0], whole)
                    args[1].write(whole.getvalue()[: len(whole.getvalue()) // 2])
                    args[1].flush()
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **options)

        return counted

    for owner, name in (
        (torch, "save"),
        (os, "fsync"),
        (os, "replace"),
        (os, "link"),
        (Path, "replace"),
        (Path, "unlink"),
    ):
        setattr(owner, name, mortal(name, getattr(owner, name)))


def _start(*arguments: Any) -> Any:
    process = running_server().Process(target=_train, args=arguments)
    process.start()
    return process


def _end(process: Any) -> int:
    process.join(_SECONDS)
    assert process.exitcode is not None, "the run hangs"
    return process.exitcode


@pytest.fixture(scope="module")
def undisturbed(phantom, tmp_path_factory):
    """The plain and the distilled run that nobody kills, and the seconds that one takes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    start = time.monotonic()
    assert _end(_start(phantom, folder / "plain", None, None)) == 0
    seconds = time.monotonic() - start
    assert _end(_start(phantom, folder / "distilled", folder / f"plain/iter_{_ITERATIONS}.pth", None)) == 0
    return folder, seconds


def _checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.pth"))


@pytest.mark.parametrize("kind", ["plain", "distilled"])
@pytest.mark.parametrize("kills", [3, pytest.param(15, marks=pytest.mark.full)])
def test_a_killed_run_loses_nothing(kind, kills, phantom, tmp_path, undisturbed):
    """Half of the kills come at a random moment, half at a random step of saving."""
    whole, seconds = undisturbed
    teacher = whole / f"plain/iter_{_ITERATIONS}.pth" if kind == "distilled" else None
    chance = random.Random(f"{kind} {kills}")
    done = runs = 0
    while done < kills:
        folder, reached = tmp_path / str(runs), 0
        runs += 1
        while True:
            in_save = done < kills and done % 2 == 0
            process = _start(phantom, folder, teacher, chance.randrange(1, _STEPS) if in_save else None)
            if done < kills and not in_save:
                process.join(chance.uniform(0, seconds))
                process.kill()
            code = _end(process)
            if code == 0:
                break
            assert code == -signal.SIGKILL
            done += 1
            checkpoint, damaged = last_whole_checkpoint(folder)
            assert not damaged
            if checkpoint is None:
                assert reached == 0
            else:
                before, reached = reached, torch.load(checkpoint, weights_only=True)["meta"]["iter"]
                assert reached >= before
        _assert_the_same(folder, whole / kind)


def _assert_the_same(folder: Path, whole: Path) -> None:
    assert _checkpoints(folder) == _checkpoints(whole)
    assert not list(folder.glob(".*"))
    for name in _checkpoints(whole):
        one, other = (torch.load(run / name, weights_only=True) for run in (folder, whole))
        for key in ("state_dict", "connectors", "optimizer", "param_schedulers"):
            assert _equal(one.get(key), other.get(key)), (name, key)
        scores = [each["message_hub"]["runtime_info"] for each in (one, other)]
        for key in ("best_score", "best_ckpt", "keep_ckpt_ids", "scored_at"):
            assert scores[0].get(key) == scores[1].get(key), (name, key)


@pytest.mark.full
def test_every_step_of_saving_can_be_the_last(phantom, tmp_path, undisturbed):
    """Killed at each step one after the other, the run still ends, and as the undisturbed one."""
    whole, _ = undisturbed
    for step in range(1, _STEPS):
        assert _end(_start(phantom, tmp_path / "run", None, step)) in (0, -signal.SIGKILL)
    assert _end(_start(phantom, tmp_path / "run", None, None)) == 0
    _assert_the_same(tmp_path / "run", whole / "plain")


@pytest.mark.full
def test_every_step_of_putting_an_earlier_run_aside_can_be_the_last(phantom, tmp_path, undisturbed):
    """What goes on is the earlier run or the new one; each ends whole, and no file of one lies among the other's."""
    whole = undisturbed[0] / "plain"
    before = {path.name: path.read_bytes() for path in whole.glob("*.pth")}
    ends = set()
    for step in range(1, 31):  # as far as into the second checkpoint
        folder = Path(shutil.copytree(whole, tmp_path / str(step)))
        assert _end(_start(phantom, folder, None, step, True)) in (0, -signal.SIGKILL)
        checkpoint, damaged = last_whole_checkpoint(folder)
        assert checkpoint is not None and not damaged
        assert _end(_start(phantom, folder, None, None)) == 0
        kept = {path.name: path.read_bytes() for path in folder.glob("replaced_*/*.pth")}
        assert kept in ({}, before)
        if not kept:  # the first checkpoint of the new run, which nothing names
            (folder / "iter_1.pth").unlink(missing_ok=True)
        _assert_the_same(folder, whole)
        ends.add(bool(kept))
    assert ends == {True, False}


def _write_cache(folder: Path, size: int) -> None:
    """Decode the slices of a phantom into its cache, and die in the middle."""
    decode, decoded = SliceDataset.decode, itertools.count(1)

    def mortal(self: SliceDataset, index: int) -> Any:
        if next(decoded) > size // 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return decode(self, index)

    SliceDataset.decode = mortal
    Runner.build_dataloader(tiny_config(folder, folder).train_dataloader, seed=0)


def test_a_cache_that_was_half_written_is_written_anew(phantom, tmp_path):
    folder = Path(shutil.copytree(phantom, tmp_path / "data", ignore=shutil.ignore_patterns(".cache")))
    process = running_server().Process(target=_write_cache, args=(folder, 12))
    process.start()
    assert _end(process) == -signal.SIGKILL
    (draft,) = (folder / ".cache").iterdir()
    options = tiny_config(folder, folder).train_dataloader
    loader = Runner.build_dataloader(options, seed=0)
    assert isinstance(loader.dataset, CachedSlices) and draft.exists()
    options.dataset.cache = None
    batches = [next(iter(each)) for each in (loader, Runner.build_dataloader(options, seed=0))]
    assert torch.equal(batches[0]["inputs"], batches[1]["inputs"])
    os.utime(draft, (0, 0))  # a process on another machine might have been writing it
    (folder / ".cache" / draft.name.partition("-")[2]).unlink()
    options.dataset.cache = "auto"
    Runner.build_dataloader(options, seed=0)
    assert not draft.exists()
