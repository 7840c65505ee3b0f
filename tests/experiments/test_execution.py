"""How runs are executed."""

import json
import multiprocessing
import os
import pickle
import shlex
import signal
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from submitit.local.local import LOCAL_REQUEUE_RETURN_CODE
from torch.distributed.launcher.api import LaunchConfig

from medseg_kd.errors import FailedRunError, UserError
from medseg_kd.experiments.execution import execute
from medseg_kd.experiments.executors import Resources
from medseg_kd.experiments.job import Job, _test, _train, _worker, lock_of
from medseg_kd.experiments.runs import Run, Settings
from medseg_kd.files import is_locked, locked, write_text
from tests.cli.experiment_runs import Forked, fork_runs, write_config


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a config, whose runs are forked."""
    write_config(tmp_path, "student", 8)
    monkeypatch.chdir(tmp_path)
    fork_runs(monkeypatch)
    return tmp_path


def test_an_interrupted_run_goes_on(home, phantom):
    """Stopped after two of four iterations: the log of the second training begins at the third."""
    settings = Settings(("train_cfg.max_iters=4", "default_hooks.checkpoint.interval=2"), str(phantom))
    run = Run("student.py", Path("run"), settings)
    execute([run])
    (whole,) = Path("run").glob("*/vis_data/scalars.json")
    before = torch.load("run/iter_4.pth", weights_only=True)["state_dict"]

    Path("run/iter_4.pth").unlink()
    Path("run/last_checkpoint").unlink()
    run.note()
    whole.unlink()
    early = Settings(("train_cfg.max_iters=2", "param_scheduler.1.end=250"), str(phantom))
    execute([Run("student.py", Path("early"), early)])
    Path("early/iter_2.pth").replace("run/iter_2.pth")
    assert not run.is_tested
    execute([run])
    assert "[3/4]" in Path("run/train.log").read_text(encoding="utf-8")
    assert "[2/4]" not in Path("run/train.log").read_text(encoding="utf-8")
    after = torch.load("run/iter_4.pth", weights_only=True)["state_dict"]
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert run.facts["seconds"] > 0


def test_a_failure_ends_the_other_runs(home, monkeypatch):
    """One would run for a minute; a test that was made before its folder's training counts for nothing."""

    def train(run: Run, launcher: str) -> None:
        print("out of luck")
        if run.work_dir.name == "fails":
            raise UserError("there is none")
        signal.pause()

    monkeypatch.setattr("medseg_kd.experiments.job._train", train)
    with pytest.raises(FailedRunError, match="(?s)fails failed; the end of .*train.log:\nout of luck\nerror: there is"):
        execute([Run("student.py", Path("sleeps")), Run("student.py", Path("fails"))], Resources(jobs=2))
    assert [each.process.exitcode for each in Forked.alive] == [-signal.SIGTERM, 0]


def test_a_run_that_is_killed_is_started_again_but_not_forever(home, monkeypatch):
    def train(run: Run, launcher: str) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr("medseg_kd.experiments.job._train", train)
    monkeypatch.setattr("submitit.LocalJob._results_timeout_s", 0)
    with pytest.raises(FailedRunError, match="run failed"):
        execute([Run("student.py", Path("run"))])
    assert len(Forked.started) == 4


def test_a_run_waits_for_the_process_in_its_folder(home, monkeypatch, capsys):
    """As for a training that outlived its command."""
    run, left = Run("student.py", Path("run")), Path("left")
    run.note()

    def work() -> None:
        with locked(lock_of(run)):
            time.sleep(2)
            left.touch()

    def train(run: Run, launcher: str) -> None:
        if not left.exists():
            raise UserError("two at a time")

    def test(run: Run, launcher: str) -> None:
        write_text(run.work_dir / "test/metrics.json", json.dumps({"transunet": {"mDice": 1, "mHD95": 1}}))

    monkeypatch.setattr("medseg_kd.experiments.job._train", train)
    monkeypatch.setattr("medseg_kd.experiments.job._test", test)
    other = multiprocessing.get_context("fork").Process(target=work)
    other.start()
    while not is_locked(lock_of(run)):
        time.sleep(0.01)
    execute([run])
    other.join()
    assert "training when the process is done that works in this folder" in capsys.readouterr().out
    assert run.is_tested


def test_the_same_run_twice_is_refused(home):
    run = Run("student.py", Path("run"))
    with pytest.raises(UserError, match="two runs would share a folder"):
        execute([run, run])


def test_a_run_that_does_not_get_on_is_not_put_back_forever(home, monkeypatch):
    """Nor one that got on before."""
    run = Run("student.py", Path("run"))
    job = Job(run)
    run.note()
    for checkpoint in ("iter_2.pth", "iter_4.pth"):
        Path("run", checkpoint).touch()
        for _ in range(6):
            job = job.checkpoint().function
    assert job.interruptions == 5
    monkeypatch.setattr("medseg_kd.experiments.execution.Job", lambda *_, **__: job.checkpoint().function)
    with pytest.raises(
        FailedRunError, match="6 times without a new checkpoint: lower default_hooks.checkpoint.interval"
    ):
        execute([run])


def test_a_killed_run_that_gets_on_is_started_again_without_end(home, monkeypatch, capsys):
    """Slurm kills it before it may ask for another place in the queue."""

    def train(run: Run, launcher: str) -> None:
        (run.work_dir / f"iter_{len(list(run.work_dir.glob('*.pth')))}.pth").touch()
        if len(list(run.work_dir.glob("*.pth"))) < 6:
            os.kill(os.getpid(), signal.SIGTERM)
        raise UserError("six")

    monkeypatch.setattr("medseg_kd.experiments.job._train", train)
    with pytest.raises(FailedRunError, match="six"):
        execute([Run("student.py", Path("run"))])
    assert len(Forked.started) == 6
    assert "run was killed: training goes on, local job" in capsys.readouterr().out


def test_a_preempted_run_ends_whatever_it_is_doing(home, monkeypatch):
    """An exception would be caught by the code that the signal meets."""

    def train(run: Run, launcher: str) -> None:
        try:
            os.kill(os.getpid(), signal.SIGUSR2)
            time.sleep(1)
        except BaseException:
            raise UserError("it went on") from None

    monkeypatch.setattr("medseg_kd.experiments.job._train", train)
    monkeypatch.setattr("submitit.LocalJob._results_timeout_s", 0)
    with pytest.raises(FailedRunError, match="has not produced any output"):
        execute([Run("student.py", Path("run"))])
    assert {each.process.exitcode for each in Forked.alive} == {LOCAL_REQUEUE_RETURN_CODE}


@pytest.mark.parametrize(
    "visible, given, devices",
    [
        ("0,1,2", {}, ["0", "1", "2"]),
        ("3,MIG-a", {"jobs": 3}, ["3", "MIG-a", "3"]),
        ("0,1,2,3", {"gpus": 2}, ["0,1", "2,3"]),
        ("0,1", {"gpus": 0, "jobs": 2}, ["", ""]),
        ("", {}, [""]),
    ],
)
def test_each_run_has_its_own_gpus(tmp_path, monkeypatch, visible, given, devices):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    resources = Resources(**given)
    slots = resources.slots(9)
    commands = [shlex.split(resources.executor_of(tmp_path, "run", slot, slots).python) for slot in range(slots)]
    assert [next(word.partition("=")[2] for word in words if "CUDA" in word) for words in commands] == devices
    assert {words[-1] for words in commands} == {sys.executable}


@pytest.mark.parametrize(
    "given, message",
    [
        ({"jobs": 0}, "at least 1"),
        ({"gpus": 2}, "this machine has fewer"),
        ({"partition": "a"}, "--partition and --time are for --executor slurm"),
        ({"executor": "slurm"}, "no srun"),
    ],
)
def test_resources_that_are_not_there(monkeypatch, given, message):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=message):
        Resources(**given)


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.full)])
def test_several_gpus_train_in_as_many_processes(home, phantom, monkeypatch, method):
    """Without GPUs they meet on the CPU. They are spawned, which takes the time of the imports in each."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert LaunchConfig(1, 1, 2).start_method == "spawn"
    monkeypatch.setattr("medseg_kd.experiments.job.LaunchConfig", partial(LaunchConfig, start_method=method))
    run = Run("student.py", Path("run"), Settings((), str(phantom)))
    assert pickle.loads(pickle.dumps((_worker, _train, _test, run))) == (_worker, _train, _test, run)
    execute([run], Resources(gpus=2))
    assert "2 process(es)" in Path("run/train.log").read_text(encoding="utf-8")
    assert json.loads(Path("run/test/metrics.json").read_text())["transunet"] == run.scores()
