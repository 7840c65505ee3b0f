"""Two processes of a distributed run on the CPU."""

import os
import socket
import traceback
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch

from medseg_kd.cli import _part
from tests.fork_server import running_server

_SECONDS = 240


def in_two_processes(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What ``function(*arguments)`` returns in each of two processes that ``launcher='pytorch'`` brings together.

    Both must return; an error in one of them is raised here, with its traceback.
    """
    context = running_server()
    results = context.Queue()
    port = free_port()
    with mock.patch.dict(os.environ, {"CUDA_VISIBLE_DEVICES": ""}):
        processes = [
            context.Process(target=_run, args=(rank, port, results, function, arguments), daemon=True)
            for rank in range(2)
        ]
        for process in processes:
            process.start()
    found = {}
    try:
        for _ in processes:
            rank, result, error = results.get(timeout=_SECONDS)
            assert error is None, f"process {rank}:\n{error}"
            found[rank] = result
    finally:
        for process in processes:
            process.terminate()
            process.join()
    return [found[rank] for rank in range(2)]


def free_port() -> int:
    """A port that processes can meet at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _run(rank: int, port: int, results: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """One process."""
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()})
    torch.set_num_threads(1)
    try:
        results.put((rank, function(*arguments), None))
        _part()
    except BaseException:
        results.put((rank, None, traceback.format_exc()))
