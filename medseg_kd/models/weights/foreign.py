"""Reading other projects' checkpoint files without running anything in them.

A checkpoint of MMEngine's runner holds its message hub, others hold NumPy scalars, argument objects or paths: classes
that ``torch.load(weights_only=True)`` refuses, though only the tensors are wanted. Here each class and function that
PyTorch does not know is replaced by an inert placeholder before PyTorch's own restricted unpickler reads the file.
"""

import os
import pickletools
import zipfile
import zlib
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from medseg_kd.errors import UserError
from medseg_kd.models.checkpoint import read_unchecked

# PyTorch's format before the zip file: a magic number, the version, the system and the object, each a pickle.
_PICKLES_BEFORE_ZIP = 4
_DAMAGED = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)
_WRAPPERS = ("state_dict", "model", "model_state_dict", "net", "network_weights")


class Placeholder:
    """Stands for an object whose class or function was not loaded: takes any arguments and state, and keeps none."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "Placeholder":
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


def read_foreign(path: str | os.PathLike) -> dict[str, Any]:
    """Read a checkpoint of another project.

    Args:
        path: What ``torch.save`` wrote, in any of its formats but TorchScript and tar, or an ``.npz`` of arrays.

    Returns:
        Its content; a bare ``state_dict``, and an ``.npz``, as ``{"state_dict": ...}``. Objects of other classes than
        tensors and plain containers are :class:`Placeholder`.

    Raises:
        UserError: The file is missing or damaged, or what it holds goes beyond placeholders (it calls the operating
            system, or fills a container class of its own).
    """
    name = os.fspath(path)
    if name.endswith(".npz"):
        return {"state_dict": read_npz(name)}
    if not os.path.isfile(name):
        raise UserError(f"checkpoint not found: {name}")
    with torch.serialization.safe_globals([(Placeholder, global_) for global_ in _globals_of(name)]):
        return read_unchecked(name)


def read_npz(path: str | os.PathLike) -> dict[str, Tensor]:
    """The arrays of an ``.npz`` as tensors; no code in it is run.

    Raises:
        UserError: The file is not there or damaged, or holds other things than numbers.
    """
    name = os.fspath(path)
    if not os.path.isfile(name):
        raise UserError(f"checkpoint not found: {name}")
    try:
        with np.load(name, allow_pickle=False) as arrays:
            return {key: torch.from_numpy(arrays[key]) for key in arrays.files}
    except (*_DAMAGED, TypeError, AttributeError, KeyError) as error:
        raise UserError(
            f"{name} cannot be read as an .npz of numeric arrays ({error}): download or copy it again"
        ) from error


def weights_of(checkpoint: dict[str, Any], source: str) -> dict[str, Tensor]:
    """The weights of a checkpoint, without the wrappers that training code puts around them."""
    inner: Any = checkpoint
    while wrapper := next((name for name in _WRAPPERS if isinstance(inner.get(name), dict)), None):
        inner = inner[wrapper]
    weights = {str(key).removeprefix("module."): value for key, value in inner.items() if isinstance(value, Tensor)}
    if not weights:
        raise UserError(f"{source} holds no weights: its keys are {', '.join(map(str, list(inner)[:8])) or 'none'}")
    return weights


def _globals_of(name: str) -> set[str]:
    """Names of all classes and functions that a file asks for; none where it is no pickle, which reading it tells."""
    found: set[str] = set()
    with suppress(*_DAMAGED, RuntimeError), open(name, "rb") as file:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                for member in archive.namelist():
                    if member.endswith("data.pkl"):
                        found.update(_globals_in(archive.open(member)))
        else:
            file.seek(0)
            for _ in range(_PICKLES_BEFORE_ZIP):
                found.update(_globals_in(file))
    return found


def _globals_in(pickled: IO[bytes]) -> Iterator[str]:
    """The globals of the next pickle of a file, by disassembly; Python 2's names as Python 3's."""
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
            yield f"{module}.{name}"
