"""Runs in processes of their own: each once, a few at a time."""

import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from medseg_kd.errors import UserError
from medseg_kd.experiments.runs import Run, check_origin, is_tested, is_trained, scores, write_state
from medseg_kd.models.checkpoint import last_checkpoint

_CALL = "from medseg_kd.cli import run; from medseg_kd.cli.{0} import main; run(main)"
_SHOWN_LINES = 15
_POLL = 0.05


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
        check_origin(run)
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
            write_state(run, {"origin": run.origin})
            print(f"{self.label}: training{' goes on' if resumed else ''}", flush=True)
            start = time.monotonic()
            yield [*run.train_command, *(["--resume"] if resumed else [])]
            seconds = time.monotonic() - start
            each = _seconds_per_iteration(run.work_dir)
            write_state(run, {"origin": run.origin, "seconds": seconds, "seconds_per_iteration": each})
            print(f"{self.label}: trained in {seconds:.0f} s, {each:.3f} s/iter", flush=True)
        if not is_tested(run):
            yield run.test_command
        means = scores(run)
        print(f"{self.label}: Dice {means['mDice']:.2f} %, HD95 {means['mHD95']:.2f} voxels", flush=True)


def _seconds_per_iteration(work_dir: Path) -> float:
    """Median of the times in the training log, whose lines are means over the last iterations."""
    logs = sorted(work_dir.glob("*/vis_data/scalars.json"))
    entries = [json.loads(line) for log in logs for line in log.read_text(encoding="utf-8").splitlines()]
    times = [entry["time"] for entry in entries if "lr" in entry]
    return statistics.median(times) if times else math.nan


def _terminated(signum: int, frame: FrameType | None) -> NoReturn:
    """End as after Ctrl-C, so that the processes end too."""
    raise KeyboardInterrupt
