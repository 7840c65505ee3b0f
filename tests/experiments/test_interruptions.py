"""Runs that are killed or put back into the queue: the table equals the undisturbed one to the last digit."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from medseg_kd.cli import compare_methods, sweep
from medseg_kd.files import is_locked
from tests.cli.commands import start
from tests.cli.experiment_runs import fork_own_runs, fork_runs, write_config
from tests.experiments.holding import HELD
from tests.experiments.slurm_cluster import PARTITION, queue, wait_for

ITERATIONS = 8
OPTIONS = ("--threads", "1", "--cfg-options", "default_hooks.checkpoint.interval=2")
HOLDING = """
from tests.experiments.holding import HoldHook

custom_hooks = [dict(type=HoldHook)]
"""
SWEEP = ("sweep", "student.py", "--key", "optim_wrapper.optimizer.lr", "--values", "0.1", "--hold-out", "1")
COMPARE = ("compare_methods", "--teacher", "teacher.py", "--student", "student.py", "--methods", "KD")
LOCK = ".job"
SWEPT, COMPARED = Path("work_dirs/sweep/student/lr=0.1/seed1"), Path("work_dirs/compare/student/teacher/seed0")
LOCAL = ("--jobs", "2")
Change = Callable[[], None] | None
"""What the process of a command does first."""
SLURM = ("--executor", "slurm", "--partition", PARTITION, "--time", "60", "--gpus", "0")


def write_home(folder: Path) -> Path:
    """A working directory with a teacher and a student."""
    for name, width in (("teacher", 16), ("student", 8)):
        write_config(folder, name, width, ITERATIONS)
        with (folder / f"{name}.py").open("a") as file:
            file.write(HOLDING)
    return folder


@contextmanager
def held(
    home: Path, data: Path, words: tuple[str, ...], run: Path, *more: str, change: Change = fork_own_runs
) -> Iterator[BaseProcess]:
    """A command whose ``run`` waits in the middle of its training for the end of the block."""
    (home / HELD).write_text(str(run))
    with started(home, data, words, *more, change=change) as process:
        wait_for(lambda: (home / HELD).read_text() == "" or process.exitcode is not None, f"{run} in training")
        assert is_locked(home / run / LOCK), (home / "out.txt").read_text()
        yield process
        (home / HELD).unlink()


@contextmanager
def started(
    home: Path, data: Path, words: tuple[str, ...], *more: str, change: Change = fork_own_runs
) -> Iterator[BaseProcess]:
    """A command under way, which must succeed; what it prints is in ``out.txt``. Its local runs are forked, or not."""
    out = home / "out.txt"
    out.write_text("")
    told = (*words[1:], *more, "--data-root", data)
    process = start(f"tools/{words[0]}.py", *told, cwd=home, outputs=[out, out], change=change)
    try:
        yield process
        process.join(600)
        assert process.exitcode == 0, out.read_text()
    finally:
        process.terminate()
        process.join()


def job_of(home: Path, run: Path) -> int:
    """The number of a run's job in Slurm, of a local one its process."""
    found: list[str] = []

    def is_told() -> bool:
        found[:] = re.findall(rf"{run}: .* job (\d+)", (home / "out.txt").read_text())
        return bool(found)

    wait_for(is_told, f"the job of {run}")
    return int(found[-1])


def tables(home: Path) -> list[str]:
    """What was printed at the end, what the page says but for times, and all scores."""
    page = home / "page.md"
    table = page.read_text() if page.is_file() else "\n".join((home / "out.txt").read_text().splitlines()[-3:])
    scores = sorted(home.glob("work_dirs/**/test/per_case.csv"))
    assert scores
    between = re.sub(r"(?s)## Cost of training.*?## Data", "", table.partition("## Scores")[2] or table)
    return [between, *(f"{file.relative_to(home)}: {file.read_text()}" for file in scores)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, phantom) -> Callable[[tuple[str, ...]], list[str]]:
    """Tables of runs that nothing interrupts, each made once."""
    made: dict[str, list[str]] = {}

    def make(words: tuple[str, ...]) -> list[str]:
        if words[0] not in made:
            home = write_home(tmp_path_factory.mktemp(words[0]))
            with pytest.MonkeyPatch.context() as patch, (home / "out.txt").open("w") as out:
                patch.chdir(home)
                patch.setattr(sys, "stdout", out)
                fork_runs(patch)
                main = {"sweep": sweep.main, "compare_methods": compare_methods.main}[words[0]]
                main([*words[1:], "--data-root", str(phantom), *LOCAL, *OPTIONS])
            made[words[0]] = tables(home)
        return made[words[0]]

    return make


def went_on(home: Path, run: Path) -> bool:
    """Whether the last training of a run began where an earlier one had left."""
    text = (home / run / "train.log").read_text()
    return f"[1/{ITERATIONS}]" not in text and f"[5/{ITERATIONS}]" in text


SWEEPING = (*SWEEP, "--seeds", "0", "1"), SWEPT
COMPARING = (*COMPARE, "--seeds", "0", "--out", "page.md"), COMPARED
# Each command is interrupted in one of the two ways; in the other one too by `make test-all`.
LOCALLY = [pytest.param(*SWEEPING, id="sweep", marks=pytest.mark.full), pytest.param(*COMPARING, id="compare_methods")]
IN_A_QUEUE = [
    pytest.param(*SWEEPING, id="sweep"),
    pytest.param(*COMPARING, id="compare_methods", marks=pytest.mark.full),
]


@pytest.mark.parametrize("words, run", LOCALLY)
def test_a_local_run_is_killed(tmp_path, phantom, undisturbed, words, run):
    home = write_home(tmp_path)
    with held(home, phantom, words, run, *LOCAL, *OPTIONS):
        os.kill(job_of(home, run), signal.SIGKILL)
    assert f"{run} was killed: training goes on" in (home / "out.txt").read_text()
    assert went_on(home, run)
    assert tables(home) == undisturbed(words)


@pytest.mark.parametrize("words, run", IN_A_QUEUE)
def test_slurm_puts_a_run_back(tmp_path, phantom, undisturbed, cluster, words, run):
    """In the middle of training: one by ``scontrol requeue``, one by the signal of a preemption."""
    home = write_home(tmp_path)
    with held(home, phantom, words, run, *SLURM, *OPTIONS, "train_dataloader.num_workers=1"):
        job = job_of(home, run)
        put_back = ["scontrol", "requeue"] if words[0] == "sweep" else ["scancel", "--signal=USR2"]
        subprocess.run([*put_back, str(job)], check=True)
        wait_for(lambda: queue()[job] == "PENDING", f"job {job} in the queue")
    assert went_on(home, run)
    assert "was killed" not in (home / "out.txt").read_text()
    assert tables(home) == undisturbed(words)


def in_the_background() -> None:
    """Fork its runs, ignore Ctrl-C as a command that ends in ``&`` does, and have a thread beside the main one."""
    fork_own_runs()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()


@pytest.mark.parametrize("change", [fork_own_runs, in_the_background])
def test_a_command_that_is_ended_ends_its_runs(tmp_path, phantom, undisturbed, change):
    """Started again, it goes on."""
    home, run = write_home(tmp_path), SWEPT
    words = SWEEPING[0]
    with pytest.raises(AssertionError), held(home, phantom, words, run, *LOCAL, *OPTIONS, change=change) as process:
        process.terminate()
    assert process.exitcode == 130
    assert (home / "out.txt").read_text().splitlines()[-1] == "error: interrupted"
    assert "Traceback" not in (home / "out.txt").read_text()
    assert not is_locked(home / run / LOCK)
    with started(home, phantom, words, *LOCAL, *OPTIONS):
        pass
    assert "training goes on, local job" in (home / "out.txt").read_text()
    assert tables(home) == undisturbed(words)


def test_a_command_that_is_killed_leaves_no_run_behind(tmp_path, phantom):
    """Its training, in a process that submitit starts, saves as if it had been asked itself."""
    home = write_home(tmp_path)
    words = (*SWEEP, "--seeds", "1")
    with pytest.raises(AssertionError), held(home, phantom, words, SWEPT, *LOCAL, *OPTIONS, change=None) as process:
        process.kill()
        process.join()  # one that nobody waited for counts as there
        time.sleep(2.5)  # the training looks once a second
    wait_for(lambda: not is_locked(home / SWEPT / LOCK), "the run to end", 200)
    assert "(SIGTERM), and saved in" in (home / SWEPT / "train.log").read_text()


def test_slurm_ends_runs_with_the_command_and_tells_what_failed(tmp_path, phantom, cluster):
    home, run = write_home(tmp_path), SWEPT
    words = SWEEPING[0]
    with pytest.raises(AssertionError), started(home, phantom, words, *SLURM, *OPTIONS) as process:
        wait_for(lambda: (home / run / "submitit").is_dir() and "job" in (home / "out.txt").read_text(), "jobs")
        jobs = [job_of(home, each) for each in (SWEPT.with_name("seed0"), SWEPT)]
        os.kill(process.pid, signal.SIGINT)
    assert (home / "out.txt").read_text().splitlines()[-1] == "error: interrupted"
    wait_for(lambda: {queue()[job] for job in jobs} == {"CANCELLED"}, "jobs to be cancelled")
    with pytest.raises(AssertionError), started(home, phantom, words, *SLURM, *OPTIONS) as process:
        wait_for(lambda: "slurm job" in (home / "out.txt").read_text(), "a job")
        subprocess.run(["scancel", str(job_of(home, SWEPT.with_name("seed0")))], check=True)
        process.join(300)
    assert process.exitcode == 1
    assert re.search(r"error: \[1/2\] .*seed0 failed(.|\n)*CANCELLED", (home / "out.txt").read_text())
    refused = ("--executor", "slurm", "--partition", "nowhere")
    with pytest.raises(AssertionError), started(home, phantom, words, *refused, *OPTIONS) as process:
        process.join(300)
    assert process.exitcode == 2
    assert "error: Slurm did not take " in (home / "out.txt").read_text()
    assert "invalid partition" in (home / "out.txt").read_text()
