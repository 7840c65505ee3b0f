"""What a launcher of several processes tells each of them."""

import os
import socket

from medseg_kd.errors import UserError

_TOLD = {
    "pytorch": (("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"), ("MASTER_ADDR",), "torchrun"),
    "slurm": (("SLURM_PROCID", "SLURM_NTASKS"), ("SLURM_NODELIST",), "srun"),
    "mpi": (
        tuple(f"OMPI_COMM_WORLD_{name}" for name in ("RANK", "SIZE", "LOCAL_RANK")),
        ("MASTER_ADDR", "MASTER_PORT"),
        "mpirun",
    ),
}
"""Variables that are numbers, the rank and the number of processes first; others; and what sets them."""


def check_launcher(name: str) -> None:
    """Refuse to wait for processes that nobody started.

    Raises:
        UserError: A variable is not set, or no number, or the rank is none of the processes'.
    """
    if name not in _TOLD:
        return
    numbers, others, program = _TOLD[name]
    if lacks := [key for key in (*numbers, *others) if key not in os.environ]:
        raise UserError(
            f"--launcher {name}: {', '.join(lacks)} not set. Start the command with {program}, which sets them, or "
            "leave --launcher out"
        )
    for key in numbers:
        if not os.environ[key].isdecimal():
            raise UserError(f"--launcher {name}: {key} is {os.environ[key]!r}, expected a number as {program} sets it")
    _check_meeting_point(f"--launcher {name}")
    rank, processes = numbers[:2]
    if int(os.environ[rank]) >= int(os.environ[processes]):
        raise UserError(
            f"--launcher {name}: {rank} is {os.environ[rank]}, expected less than {processes}, which is "
            f"{os.environ[processes]}. Start the command with {program}"
        )


def _check_meeting_point(launcher: str) -> None:
    """Refuse an address that nobody knows, for which PyTorch would wait many minutes, or a port that there is not."""
    port = os.environ.get("MASTER_PORT", "29500")
    if not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(f"{launcher}: MASTER_PORT is {port!r}, expected a number from 1 to 65535")
    try:
        socket.getaddrinfo(os.environ.get("MASTER_ADDR", "localhost"), port)
    except OSError as error:
        where = os.environ.get("MASTER_ADDR")
        raise UserError(f"{launcher}: MASTER_ADDR is {where!r}, which no machine has ({error.strerror})") from error
