"""Running the commands as a user does."""

import gc
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from tests.fork_server import running_server

ROOT = Path(__file__).parents[2]
SHORT = (
    "train_cfg.val_interval=100",
    "default_hooks.checkpoint.interval=2",
    "default_hooks.logger.interval=1",
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "val_dataloader.num_workers=0",
    "val_dataloader.persistent_workers=False",
    "test_dataloader.num_workers=0",
)
_SECONDS = 300


def command(script: str, *arguments: object, cwd: Path, forked: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a script of the repository in ``cwd``, in a process of its own; its output as text.

    Args:
        script: Relative to the repository, or absolute.
        arguments: Its arguments.
        cwd: The working directory.
        forked: In a process that has the imports already; otherwise in a new interpreter, which takes seconds more.
    """
    told = [str(ROOT / script), *map(str, arguments)]
    if not forked:
        return subprocess.run(
            [sys.executable, *told],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder, name) for name in ("stdout", "stderr")]
        process = start(script, *arguments, cwd=cwd, outputs=outputs)
        process.join(_SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(told, _SECONDS)
        return subprocess.CompletedProcess(
            told, process.exitcode, *(file.read_text(encoding="utf-8") for file in outputs)
        )


def start(
    script: str,
    *arguments: object,
    cwd: Path,
    outputs: Sequence[Path],
    change: Callable[[], None] | None = None,
    **variables: str,
) -> BaseProcess:
    """Start a script in a process that has the imports already.

    Args:
        script, arguments, cwd: As above.
        outputs: Where its stdout and its stderr go.
        change: What it calls first.
        variables: Of its environment, beside those that are there.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    told = [str(ROOT / script), *map(str, arguments)]
    process = running_server().Process(target=_run, args=(told, cwd, environment, outputs, change))
    process.start()
    return process


def succeed(script: str, *arguments: object, cwd: Path, forked: bool = True) -> str:
    """Run a script that must succeed; its output and errors."""
    done = command(script, *arguments, cwd=cwd, forked=forked)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def fail(script: str, *arguments: object, cwd: Path, forked: bool = True) -> str:
    """Run a script that must refuse its input with one message and no traceback."""
    done = command(script, *arguments, cwd=cwd, forked=forked)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.strip().splitlines()[-1:] and "error: " in done.stderr
    return done.stderr


def _run(
    told: Sequence[str],
    cwd: Path,
    environment: Mapping[str, str],
    outputs: Sequence[Path],
    change: Callable[[], None] | None,
) -> None:
    """Be the process that ``python SCRIPT ARGUMENTS`` is."""
    for descriptor, file in enumerate(outputs, start=1):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, descriptor)
        os.close(opened)
    gc.freeze()  # what is imported is not looked through again
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    torch.set_num_threads(1)
    multiprocessing.set_start_method(None, force=True)  # as it is in a process that nobody forked
    installed = [path for path in sys.path if path.startswith((sys.prefix, sys.base_prefix))]
    sys.path[:] = [str(Path(told[0]).parent), str(ROOT), *installed]
    sys.argv[:] = told
    if change is not None:
        change()
    runpy.run_path(told[0], run_name="__main__")
