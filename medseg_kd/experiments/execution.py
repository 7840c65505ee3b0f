"""Runs as jobs of submitit: each once, a few at a time."""

import contextlib
import io
import math
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError

from medseg_kd.configuration import load_run, parse_options
from medseg_kd.configuration.names import LOADERS
from medseg_kd.datasets.configured import configured_folders
from medseg_kd.errors import FailedRunError, UserError
from medseg_kd.experiments.executors import Resources
from medseg_kd.experiments.job import Job, lock_of
from medseg_kd.experiments.runs import Run
from medseg_kd.files import is_locked
from medseg_kd.models.checkpoint import last_checkpoint

_STARTS = 4
"""How often in a row, without a new checkpoint, a run is started that something kills, such as a full memory."""
_POLL = 0.1
_SHOWN_LINES = 15
_LATE = 60
"""Seconds after which a network file system shows what another machine wrote."""


@dataclass
class _Active:
    """A run under way."""

    run: Run
    label: str
    job: submitit.Job
    seen: Path | None
    """The last checkpoint at the last start."""
    starts: int = 1


def execute(runs: Sequence[Run], resources: Resources | None = None) -> None:
    """Train and test runs in their order, students after their teacher; what is finished already is skipped.

    A run that was interrupted goes on from its last checkpoint, from the beginning where there is none. Output goes
    to ``train.log`` and ``test.log`` of the run folder, that of submitit to ``submitit``. A run that is killed is
    started again. Where this process is asked to end, by Ctrl-C or SIGTERM, the runs end before it.

    Raises:
        FailedRunError: A run failed; the others are ended.
        UserError: A folder holds a run that was made in another way, or two runs share one; or the system is Windows.
    """
    resources = resources or Resources()
    if not hasattr(signal, "pthread_sigmask"):
        raise UserError("many runs in one command need Linux or macOS: train and test them one by one with train.py")
    for run in runs:
        run.check_origin()
    if len(runs) > len({run.work_dir for run in runs}):
        raise UserError("two runs would share a folder: give each seed and each value once")
    slots = resources.slots(len(runs))
    waiting = [(f"[{number}/{len(runs)}] {run.work_dir}", run) for number, run in enumerate(runs, start=1)]
    active: dict[int, _Active] = {}
    # Both signals wait until the loop looks. The runs inherit that Ctrl-C does, and are told to end one by one.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    # No SIGINT to itself: in the background of a shell that is ignored, and another thread may take it.
    terminations: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: terminations.append(number))
    try:
        while waiting or active:
            if terminations or signal.SIGINT in signal.sigpending():
                raise KeyboardInterrupt
            for label, run in list(waiting):
                free = [slot for slot in range(slots) if slot not in active]
                if free and (run.teacher is None or run.teacher.is_trained):
                    waiting.remove((label, run))
                    if run.is_tested:
                        _report(run, label)
                    else:
                        job = _start(run, label, resources, free[0], slots)
                        active[free[0]] = _Active(run, label, job, last_checkpoint(run.work_dir))
            for slot, each in [item for item in active.items() if item[1].job.done()]:
                last = last_checkpoint(each.run.work_dir)
                starts = each.starts + 1 if last == each.seen else 1
                if starts <= _STARTS and _was_killed(each):
                    each.job = _start(each.run, f"{each.label} was killed", resources, slot, slots)
                    each.seen, each.starts = last, starts
                else:
                    del active[slot]
                    _check(each)
                    _report(each.run, each.label)
            time.sleep(_POLL)
    finally:
        for each in active.values():
            _end(each.job)
        signal.signal(signal.SIGTERM, before)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def check_cases(runs: Sequence[Run]) -> None:
    """Look for the cases of the runs that are not finished, of each config once.

    Raises:
        UserError: A data folder or a case is not there.
    """
    pending = {run.config: run for run in runs if not run.is_tested}
    for run in pending.values():
        cfg = load_run(run.config, parse_options(run.options), run.settings.data_root)
        for name in LOADERS:
            for folder in configured_folders((cfg.get(name) or {}).get("dataset") or {}):
                folder.find()


def _start(run: Run, label: str, resources: Resources, slot: int, slots: int) -> submitit.Job:
    """Submit a run, and say so."""
    if not run.facts:
        run.note()
    goes_on = " goes on" if last_checkpoint(run.work_dir) else ""
    after = " when the process is done that works in this folder" if is_locked(lock_of(run)) else ""
    executor = resources.executor_of(run.work_dir / "submitit", "/".join(run.work_dir.parts[-2:]), slot, slots)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # the error says the same
            job = executor.submit(Job(run, max(1, resources.gpus), owner=os.getpid()))
    except FailedJobError as error:
        raise UserError(f"Slurm did not take {run.work_dir}: {error}") from error
    print(f"{label}: training{goes_on}{after}, {resources.executor} job {job.job_id}", flush=True)
    return job


def _was_killed(each: _Active) -> bool:
    """Whether a run ended without a word, and nobody cancelled it."""
    said = each.job.paths.result_pickle.exists() or each.job.state in ("CANCELLED", "COMPLETED")
    return not said and not each.run.is_tested


def _check(each: _Active) -> None:
    """Refuse to go on after a run that failed."""
    if (error := each.job.exception()) is not None:
        text, where = str(error), each.job.paths.stdout
    elif (log := each.job.result()) is not None:
        text, where = log.read_text(encoding="utf-8"), log
    else:
        late = time.monotonic() + _LATE
        while not each.run.is_tested and time.monotonic() < late:
            time.sleep(1)
        return
    end = "\n".join(text.splitlines()[-_SHOWN_LINES:])
    raise FailedRunError(f"{each.label} failed; the end of {where}:\n{end}")


def _report(run: Run, label: str) -> None:
    """Say what came out."""
    means, facts = run.scores(), run.facts
    took, each = f"trained in {facts['seconds']:.0f} s", facts["seconds_per_iteration"]
    took += "" if math.isnan(each) else f", {each:.3f} s/iter"
    print(f"{label}: Dice {means['mDice']:.2f} %, HD95 {means['mHD95']:.2f} voxels; {took}", flush=True)


def _end(job: submitit.Job) -> None:
    """End a job. That of this machine hands SIGTERM on; submitit would interrupt it, which prints where it was."""
    if not isinstance(job, submitit.LocalJob):
        job.cancel(check=False)
        return
    while not job.done():
        os.kill(int(job.job_id), signal.SIGTERM)
        time.sleep(_POLL)
