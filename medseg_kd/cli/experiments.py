"""Many runs of ``train.py`` and ``test.py``: each in a process of its own, each once, a few at a time."""

import argparse
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from medseg_kd.errors import UserError
from medseg_kd.models.checkpoint import last_checkpoint

NO_VALIDATION = "train_cfg.val_begin=1000000000"
"""Option of a run that is scored at its end alone."""

_STATE = "run.json"
_CALL = "from medseg_kd.cli import run; from medseg_kd.cli.{0} import main; run(main)"
_SHOWN_LINES = 15
_POLL = 0.05


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


def add_execution_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says how runs are executed."""
    parser.add_argument("--data-root", metavar="DIR", help="data folder of training, validation and test")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(0 1 2)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (1)")
    parser.add_argument("--threads", type=int, help="CPU threads of each run (default: the cores, shared by the jobs)")
    parser.add_argument("--amp", action="store_true", help="train in the device's native precision")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="config keys to change in every run"
    )


def execute(runs: Sequence[Run], jobs: int = 1, threads: int | None = None) -> None:
    """Train and test runs, ``jobs`` at a time, in their order; what is finished already is skipped.

    A run that was interrupted goes on from its last checkpoint, from the beginning where there is none. Output goes
    to ``train.log`` and ``test.log`` of the run folder, one line for each step to the terminal.

    Raises:
        UserError: A run failed, a folder holds a run that was made in another way, or an argument does not fit.
    """
    if jobs < 1 or (threads is not None and threads < 1):
        raise UserError("--jobs and --threads must be at least 1")
    for run in runs:
        _check_origin(run)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads or max(1, cores // jobs))}
    waiting = [(f"[{number}/{len(runs)}] {run.work_dir}", run) for number, run in enumerate(runs, start=1)]
    active: list[_Execution] = []
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        while waiting or active:
            for label, run in list(waiting):
                if len(active) < jobs and (run.teacher is None or is_trained(run.teacher)):
                    waiting.remove((label, run))
                    active.append(_Execution(run, label, environment))
            active = [execution for execution in active if execution.goes_on()]
            time.sleep(_POLL)
    finally:
        signal.signal(signal.SIGTERM, before)
        for execution in active:
            execution.stop()


def start_process(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen:
    """Start ``train.py`` or ``test.py`` with its arguments; what it prints goes to ``log``."""
    call = [sys.executable, "-c", _CALL.format(Path(command[0]).stem), *command[1:]]
    with log.open("w", encoding="utf-8") as output:
        return subprocess.Popen(call, stdout=output, stderr=subprocess.STDOUT, env=environment)


def facts(run: Run) -> dict[str, Any]:
    """What a trained run took: ``seconds`` of its (last) training process, ``seconds_per_iteration``."""
    return _state(run)


def is_trained(run: Run) -> bool:
    """Whether the training was finished by :func:`execute`."""
    return "seconds" in _state(run)


def scores(run: Run, protocol: str = "transunet") -> dict[str, Any]:
    """The means of a tested run under one protocol, as ``metrics.json`` holds them."""
    return json.loads(_metrics(run).read_text(encoding="utf-8"))[protocol]


def mean_and_deviation(values: Sequence[float], digits: int = 2) -> str:
    """``mean ± deviation``, the deviation that of a sample (n - 1); without it for a single value."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


class _Execution:
    """A run under way: its processes one after the other.

    Args:
        run: The run.
        label: What its lines begin with.
        environment: Of its processes.
    """

    def __init__(self, run: Run, label: str, environment: Mapping[str, str]) -> None:
        self.run = run
        self.label = label
        self.environment = environment
        self.steps = self._steps()
        self.process: subprocess.Popen | None = None
        self.log = Path()

    def goes_on(self) -> bool:
        """Start the next process where none runs; whether there is still something to wait for.

        Raises:
            UserError: The process that ended has failed.
        """
        if self.process is not None:
            if self.process.poll() is None:
                return True
            if self.process.returncode:
                end = "\n".join(self.log.read_text(encoding="utf-8").splitlines()[-_SHOWN_LINES:])
                raise UserError(f"{self.label} failed; the end of {self.log}:\n{end}")
        command = next(self.steps, None)
        if command is None:
            return False
        self.log = self.run.work_dir / f"{Path(command[0]).stem}.log"
        self.process = start_process(command, self.log, self.environment)
        return True

    def stop(self) -> None:
        """End the process."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait()

    def _steps(self) -> Iterator[Sequence[str]]:
        """The commands that the run still needs; each has succeeded when the next is asked for."""
        run = self.run
        if not is_trained(run):
            resumed = last_checkpoint(run.work_dir) is not None
            _write_state(run, {"origin": run.origin})
            print(f"{self.label}: training{' goes on' if resumed else ''}", flush=True)
            start = time.monotonic()
            yield [*run.train_command, *(["--resume"] if resumed else [])]
            seconds = time.monotonic() - start
            each = _seconds_per_iteration(run.work_dir)
            _write_state(run, {"origin": run.origin, "seconds": seconds, "seconds_per_iteration": each})
            print(f"{self.label}: trained in {seconds:.0f} s, {each:.3f} s/iter", flush=True)
        if not _metrics(run).is_file():
            yield run.test_command
        means = scores(run)
        print(f"{self.label}: Dice {means['mDice']:.2f} %, HD95 {means['mHD95']:.2f} voxels", flush=True)


def is_tested(run: Run) -> bool:
    """Whether training and test were finished by :func:`execute`."""
    return is_trained(run) and _metrics(run).is_file()


def _metrics(run: Run) -> Path:
    """Where the test leaves its means."""
    return run.work_dir / "test" / "metrics.json"


def _check_origin(run: Run) -> None:
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


def _state(run: Run) -> dict[str, Any]:
    """What is known of the run folder's content."""
    file = run.work_dir / _STATE
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _write_state(run: Run, state: Mapping[str, Any]) -> None:
    """Replace what is known of the run folder's content."""
    run.work_dir.mkdir(parents=True, exist_ok=True)
    draft = run.work_dir / f".{_STATE}"
    draft.write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    draft.replace(run.work_dir / _STATE)


def _seconds_per_iteration(work_dir: Path) -> float:
    """Median of the times in the training log, whose lines are means over the last iterations."""
    logs = sorted(work_dir.glob("*/vis_data/scalars.json"))
    entries = [json.loads(line) for log in logs for line in log.read_text(encoding="utf-8").splitlines()]
    times = [entry["time"] for entry in entries if "lr" in entry]
    return statistics.median(times) if times else math.nan


def _terminated(signum: int, frame: FrameType | None) -> NoReturn:
    """End as after Ctrl-C, so that the processes end too."""
    raise KeyboardInterrupt
