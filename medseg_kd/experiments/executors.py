"""Where runs are executed and what each of them gets: submitit's executors for this machine and for Slurm."""

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from submitit import LocalExecutor, SlurmExecutor, SlurmJob
from submitit.slurm.slurm import SlurmInfoWatcher

from medseg_kd.errors import UserError

_TEN_YEARS, _FOUR_HOURS = 10 * 365 * 24 * 60, 4 * 60
_ENDED = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"}
_ENDED |= {"PREEMPTED", "REVOKED", "TIMEOUT"}


@dataclass(frozen=True)
class Resources:
    """What runs are executed with.

    Attributes:
        executor: ``local`` for processes of this machine, ``slurm`` for jobs of its cluster.
        jobs: runs at a time; None: on this machine one, or one a GPU, on Slurm all.
        threads: CPU threads of each run; None: on this machine the cores, shared by the jobs, on Slurm what it gives.
        gpus: of each run, which trains with as many processes where they are several.
        partition: of Slurm.
        minutes: limit of Slurm; a run that reaches it goes back into the queue, and on from its last checkpoint.

    Raises:
        UserError: They do not fit together, or not to this machine.
    """

    executor: str = "local"
    jobs: int | None = None
    threads: int | None = None
    gpus: int = 1
    partition: str | None = None
    minutes: int | None = None

    def __post_init__(self) -> None:
        if any(each is not None and each < 1 for each in (self.jobs, self.threads, self.minutes)) or self.gpus < 0:
            raise UserError("--jobs, --threads and --time must be at least 1, --gpus at least 0")
        if self.executor == "slurm" and shutil.which("srun") is None:
            raise UserError("--executor slurm: there is no srun here; start it on a machine that submits to Slurm")
        if self.executor == "local" and (self.partition or self.minutes):
            raise UserError("--partition and --time are for --executor slurm")
        if self.executor == "local" and self.gpus > 1 and not any(_shares(self.gpus)):
            raise UserError(f"--gpus {self.gpus}: this machine has fewer")

    def slots(self, runs: int) -> int:
        """How many of some runs are executed at a time."""
        return self.jobs or (runs if self.executor == "slurm" else len(_shares(self.gpus)))

    def executor_of(self, folder: Path, name: str, slot: int, slots: int) -> LocalExecutor | SlurmExecutor:
        """The executor of a run called ``name``, the only one in its ``slot`` of ``slots``; it writes to ``folder``."""
        if self.executor == "slurm":
            threads = {"OMP_NUM_THREADS": self.threads} if self.threads else {}
            cluster = _SlurmExecutor(folder, max_num_timeout=sys.maxsize, python=_python(**threads))
            cluster.update_parameters(
                job_name=name,
                partition=self.partition,
                time=self.minutes or _FOUR_HOURS,
                gpus_per_node=self.gpus or None,
                cpus_per_task=self.threads,
                srun_args=[f"--cpus-per-task={self.threads}"] if self.threads else None,  # srun does not ask the job
                stderr_to_stdout=True,
                additional_parameters={"requeue": True},
            )
            return cluster
        shares = _shares(self.gpus)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        threads = {"OMP_NUM_THREADS": self.threads or max(1, cores // slots)}
        # The executor's own choice of GPUs takes numbers alone, and a part of a GPU has a name.
        local = LocalExecutor(folder, python=_python(CUDA_VISIBLE_DEVICES=shares[slot % len(shares)], **threads))
        local.update_parameters(timeout_min=_TEN_YEARS, stderr_to_stdout=True)
        return local


class _Queue(SlurmInfoWatcher):
    """States of jobs from ``squeue``, which unlike ``sacct`` needs no accounting."""

    def _make_command(self) -> list[str]:
        return ["squeue", "--me", "--states=all", "--noheader", "--format=%i %T"]

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        """The state of each job; one that is not listed any more has ended."""
        text = string if isinstance(string, str) else string.decode()
        states = dict.fromkeys(self._registered, "COMPLETED") | dict(line.split() for line in text.splitlines())
        return {job: {"State": state if state in _ENDED else "RUNNING"} for job, state in states.items()}


class _SlurmJob(SlurmJob):
    watcher = _Queue(delay_s=15)


class _SlurmExecutor(SlurmExecutor):
    job_class = _SlurmJob


def _shares(gpus: int) -> list[str]:
    """This machine's GPUs in groups, as CUDA_VISIBLE_DEVICES names them; an empty group where there are too few."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(index) for index in range(torch.cuda.device_count())] if visible is None else visible.split(",")
    groups = [names[first : first + gpus] for first in range(0, len(names) - gpus + 1, gpus or 1)]
    return [",".join(group) for group in groups if gpus] or [""]


def _python(**environment: object) -> str:
    """The command that starts this interpreter with changes of its environment."""
    return shlex.join(["env", *(f"{name}={value}" for name, value in environment.items()), sys.executable])
