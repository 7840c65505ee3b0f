"""Classes and functions that a checkpoint file asks for, replaced by inert placeholders before it is read.

A checkpoint of MMEngine's runner holds its message hub, others hold NumPy scalars, argument objects or paths: classes
that ``torch.load(weights_only=True)`` refuses, though only the tensors are wanted. With a placeholder for each class
and function that PyTorch does not know, its own restricted unpickler reads the file, and nothing in it is run.
"""

import os
import pickletools
import zipfile
import zlib
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from typing import IO, Any

import torch

# PyTorch's format before the zip file: a magic number, the version, the system and the object, each a pickle.
_PICKLES_BEFORE_ZIP = 4
_DAMAGED = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


class Placeholder:
    """Stands for an object whose class or function was not loaded: takes any arguments and state, and keeps none."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "Placeholder":
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


def placeholders(path: str | os.PathLike) -> AbstractContextManager:
    """Inside, ``torch.load`` of a file gives a :class:`Placeholder` for each object that PyTorch does not know."""
    return torch.serialization.safe_globals([(_named(global_), global_) for global_ in _globals_of(os.fspath(path))])


def _named(global_: str) -> type[Placeholder]:
    """A placeholder with the name of what it stands for, for messages."""
    return type(global_.rpartition(".")[2], (Placeholder,), {})


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
