"""Surroundings in which nothing can run."""

import socket

from tests.bad_inputs.case import Case

_WITHOUT = dict.fromkeys(("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"))
_PROCESS = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29555"}
_SOCKET = socket.create_server(("127.0.0.1", 0))
_TAKEN = _SOCKET.getsockname()[1]


def _launched(name: str, launcher: str, *words: str, **variables: str | None) -> Case:
    arguments = ("base.py", "--launcher", launcher)
    return Case(name, "train.py", arguments, words, {}, {**_WITHOUT, **variables})


ENVIRONMENTS = [
    _launched("PyTorch's launcher without its variables", "pytorch", "RANK", "torchrun"),
    _launched("PyTorch's launcher with some of them", "pytorch", "RANK", "torchrun", WORLD_SIZE="2"),
    _launched("no number as rank", "pytorch", "RANK", **{**_PROCESS, "RANK": "x"}),
    _launched("a rank beyond the processes", "pytorch", "RANK", **{**_PROCESS, "RANK": "5"}),
    _launched("no number as port", "pytorch", "MASTER_PORT", **{**_PROCESS, "MASTER_PORT": "x"}),
    _launched("a port that there is not", "pytorch", "MASTER_PORT", "65535", **{**_PROCESS, "MASTER_PORT": "99999"}),
    _launched("a port in use", "pytorch", "MASTER_PORT", "in use", **{**_PROCESS, "MASTER_PORT": str(_TAKEN)}),
    _launched(
        "an address of no machine", "pytorch", "MASTER_ADDR", **{**_PROCESS, "MASTER_ADDR": "no.machine.invalid"}
    ),
    _launched("Slurm's launcher without its variables", "slurm", "SLURM_PROCID", "srun", SLURM_PROCID=None),
    _launched("MPI's launcher without its variables", "mpi", "OMPI_COMM_WORLD_RANK", "mpirun"),
]
