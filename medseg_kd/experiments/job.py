"""A run as a job: a callable that submitit pickles, starts in a process of its own, and puts back after preemption."""

import gc
import json
import math
import os
import signal
import statistics
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from mmengine.config import Config
from submitit.core.utils import DelayedSubmission
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from medseg_kd.configuration import choose_checkpoint, load_run, parse_options, resume, set_test
from medseg_kd.engine import Runner
from medseg_kd.errors import explanation
from medseg_kd.experiments.runs import Run
from medseg_kd.files import locked
from medseg_kd.models.checkpoint import last_checkpoint

_INTERRUPTIONS = 5
"""Preemptions and reached time limits in a row that may pass without a new checkpoint."""

_LEAST = 0.5
"""Seconds between a failure and its report: where it is of loading processes that were ended, this one is next."""
_POLL = 1.0

_Step = Callable[[Run, str], None]


@dataclass(frozen=True)
class Job:
    """Trains and tests a run, whatever of it is missing, in the process that calls it or in several, one a GPU.

    ``seen`` is the last checkpoint at the last of the ``interruptions`` in a row that found no newer one. A
    local one ends with its ``owner``, the process that wants it.
    """

    run: Run
    processes: int = 1
    seen: Path | None = None
    interruptions: int = 0
    owner: int = 0

    def __call__(self) -> Path | None:
        """The log whose end tells why the run failed; None where it did not. A run that is killed has no result."""
        # submitit would ignore it, but Slurm signals loading processes too, without which a run cannot go on.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGUSR2, _leaving(signal.getsignal(signal.SIGUSR2)))
        # One process is to ask for another place in the queue.
        os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN))
        run = self.run
        if os.environ["SUBMITIT_EXECUTOR"] == "local":
            threading.Thread(target=_end_with, args=(self.owner,), daemon=True).start()
        with locked(lock_of(run), wait=True):
            if not run.is_trained and self.interruptions > _INTERRUPTIONS:
                with (log := run.work_dir / "train.log").open("a", encoding="utf-8") as file:
                    file.write(
                        f"error: interrupted {self.interruptions} times without a new checkpoint: lower "
                        "default_hooks.checkpoint.interval, or raise --time\n"
                    )
                return log
            if not run.is_trained:
                start = time.monotonic()
                if not self._succeeds(_train, log := run.work_dir / "train.log"):
                    return log
                each = _seconds_per_iteration(run.work_dir)
                run.note(seconds=time.monotonic() - start, seconds_per_iteration=each)
            if not run.is_tested and not self._succeeds(_test, log := run.work_dir / "test.log"):
                return log
        return None

    def checkpoint(self) -> DelayedSubmission:
        """What submitit puts back into the queue before preemption or the time limit ends this process."""
        last = last_checkpoint(self.run.work_dir)
        interruptions = self.interruptions + 1 if last == self.seen else 0
        return DelayedSubmission(replace(self, seen=last, interruptions=interruptions))

    def _succeeds(self, step: _Step, log: Path) -> bool:
        """Whether a step ends without an error; what it and its processes print goes to a new log."""
        with log.open("w", encoding="utf-8") as file:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
                os.dup2(file.fileno(), stream.fileno())
        if self.processes == 1:
            return _attempt(step, self.run, "none")
        here = LaunchConfig(
            1, 1, self.processes, run_id="run", rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=0
        )
        try:
            elastic_launch(here, _worker)(step, self.run)
        except SignalException as error:  # what PyTorch makes of SIGTERM
            sys.exit(128 + error.sigval)
        except ChildFailedError as error:
            if (code := error.get_first_failure()[1].exitcode) < 0:  # a signal killed it, and so this run
                sys.exit(128 - code)
            return False  # it has said why
        return True


def _leaving(handler: Any) -> Callable[[int, FrameType | None], None]:
    """A signal handler that ends the process itself: what it runs in the middle of may catch its ``SystemExit``."""

    def leave(number: int, frame: FrameType | None) -> None:
        code: object = 1
        try:
            handler(number, frame)
        except SystemExit as end:
            code = end.code
        except Exception:  # Slurm may say whatever; the command submits the run again
            traceback.print_exc()
        finally:
            os._exit(code if isinstance(code, int) else 1)

    return leave


def lock_of(run: Run) -> Path:
    """The lock of the one job that trains and tests a run. That of the training is another."""
    return run.work_dir / ".job"


def _end_with(owner: int) -> None:
    """Ask this process to end when another has."""
    try:
        while True:
            os.kill(owner, 0)
            time.sleep(_POLL)
    except ProcessLookupError:
        os.kill(os.getpid(), signal.SIGTERM)


def _train(run: Run, launcher: str) -> None:
    cfg = _config(run, launcher)
    if run.settings.amp:
        cfg.optim_wrapper.type = "medseg_kd.NativeAmpOptimWrapper"
    resume(cfg)
    Runner.from_cfg(cfg).train()


def _test(run: Run, launcher: str) -> None:
    cfg = _config(run, launcher, run.own_test)
    set_test(cfg, choose_checkpoint(cfg)[0])
    gc.collect()  # what the training held of the GPU
    Runner.from_cfg(cfg).test()


def _config(run: Run, launcher: str, more: tuple[str, ...] = ()) -> Config:
    options = parse_options((*run.options, *more))
    cfg = load_run(run.config, options, run.settings.data_root, str(run.work_dir))
    cfg.launcher = launcher
    return cfg


def _worker(step: _Step, run: Run) -> None:
    """A step in one of several processes."""
    if not _attempt(step, run, "pytorch"):
        sys.exit(1)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def _attempt(step: _Step, run: Run, launcher: str) -> bool:
    """Whether a step ends without an error, which is printed: what it means to a user, of a defect the traceback."""
    try:
        step(run, launcher)
    except Exception as error:  # a run fails of whatever it is
        time.sleep(_LEAST)
        message = explanation(error)
        print(f"error: {message}" if message else "".join(traceback.format_exception(error)), file=sys.stderr)
        return False
    return True


def _seconds_per_iteration(work_dir: Path) -> float:
    """Median of the times in the training log, whose lines are means over the last iterations."""
    logs = sorted(work_dir.glob("*/vis_data/scalars.json"))
    entries = [json.loads(line) for log in logs for line in log.read_text(encoding="utf-8").splitlines()]
    times = [entry["time"] for entry in entries if "lr" in entry]
    return statistics.median(times) if times else math.nan
