"""Runs as processes of their own, which signals are sent to."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from medseg_kd import cli
from tests.fork_server import running_server

SECONDS = 120


@contextmanager
def started(function: Callable[..., Any], *arguments: Any, out: Path) -> Iterator[BaseProcess]:
    """A process that calls ``function(*arguments)`` as a command calls its ``main``; what it prints goes to ``out``.

    It leads a process group of its own.
    """
    process = running_server().Process(target=_command, args=(function, arguments, out))
    process.start()
    try:
        yield process
    finally:
        for pid in (*children(process.pid), process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.join()


def _command(function: Callable[..., Any], arguments: tuple[Any, ...], out: Path) -> None:
    """Be the process."""
    os.setsid()
    with out.open("w", encoding="utf-8") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which the fork server ignores
    torch.set_num_threads(1)
    cli.run(lambda: function(*arguments))


def children(pid: int | None) -> list[int]:
    """Processes that a process, or one of these, has started and that are there."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found += [int(stat.parent.name), *children(int(stat.parent.name))]
    return found


def are_gone(pids: list[int]) -> bool:
    """Whether processes have ended."""
    alive = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    return all(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z" for pid in alive)


def wait_until(happens: Callable[[], Any], seconds: float = SECONDS) -> None:
    """Wait for what must happen."""
    late = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < late, "it has not happened"
        time.sleep(0.05)


def says(out: Path, words: str) -> bool:
    """Whether words have been printed."""
    return out.is_file() and words in out.read_text(encoding="utf-8")
