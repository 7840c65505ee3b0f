"""Pickles of plain containers and NumPy's numbers, read so that nothing in them runs."""

import io
import pickle
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from medseg_kd.datasets.headers import checked_bytes
from medseg_kd.errors import UserError, in_short
from medseg_kd.text_files import MAX_TEXT

_NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")

_Machine: Any = vars(pickle)["_Unpickler"]


class _Kind:
    """Stands for ``numpy.dtype``: of numbers alone."""

    def __init__(self, code: str, *_: Any) -> None:
        if code not in _NUMBERS:
            raise ValueError(f"it holds values of the type {code!r}, expected numbers")
        self.kind = np.dtype(code)

    def set(self, state: Sequence[Any]) -> None:
        """Take the byte order from what a pickle tells."""
        self.kind = self.kind.newbyteorder(">" if state[1] == ">" else "=")


class _Array:
    """Stands for ``numpy.ndarray``."""

    def __init__(self, *_: Any) -> None:
        self.values: Any = None

    def set(self, state: Sequence[Any]) -> None:
        """Take type, shape and values from what a pickle tells."""
        _, shape, kind, is_fortran, content = state
        self.values = _array(content, kind, shape, "F" if is_fortran else "C")


def _array(content: bytes, kind: _Kind, shape: Sequence[int], order: Any) -> np.ndarray:
    checked_bytes(shape, kind.kind, "an array in it")
    return np.frombuffer(content, kind.kind).reshape(shape, order=order)


def _scalar(kind: _Kind, content: bytes) -> Any:
    return np.frombuffer(content, kind.kind, 1)[0].item()


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {("numpy", "dtype"): _Kind, ("numpy", "ndarray"): _Array}
for _core in ("numpy.core", "numpy._core"):  # until NumPy 2, and since
    _KNOWN |= {(f"{_core}.multiarray", "scalar"): _scalar, (f"{_core}.multiarray", "_reconstruct"): _Array}
    _KNOWN |= {(f"{_core}.numeric", "_frombuffer"): _array}


class _Unpickler(_Machine):
    """The one in Python: the one in C takes as much memory as a number in the file tells."""

    dispatch: ClassVar[dict[int, Any]] = dict(_Machine.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a class or function of NumPy's numbers; any other is refused."""
        if (module, name) not in _KNOWN:
            raise ValueError(f"it asks for {module}.{name}, expected plain values and numbers of NumPy")
        return _KNOWN[module, name]

    def load_build(self) -> None:
        """Fill what stands for an array or a type, and nothing else."""
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, (_Kind, _Array)):
            raise ValueError(f"it fills a {type(target).__name__}, expected plain values and numbers of NumPy")
        target.set(state)

    def load_bytearray8(self) -> None:
        """As many bytes as are there."""
        (count,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(count)))

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8


def read_pickle(path: Path) -> dict[str, Any]:
    """The dict in a pickle; no class is looked up, and no code is run.

    Arrays in it are read by :func:`numbers`, NumPy's scalars are Python's.

    Raises:
        UserError: It holds other things than plain containers, numbers and texts, or is damaged.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_TEXT + 1)
        if len(content) > MAX_TEXT:
            raise ValueError(f"it has more than {MAX_TEXT >> 20} MB")
        found = _Unpickler(io.BytesIO(content)).load()
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__}, expected a dict")
        return found
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}). Copy it again, beside its npz") from error
    # A damaged pickle may raise anything, as it is a program for a machine with a stack.
    except Exception as error:
        raise UserError(
            f"{path} is not what nnU-Net writes: {in_short(error)}. Nothing in it was run; predict the case again"
        ) from error


def numbers(value: Any) -> np.ndarray:
    """Numbers of a pickle, an array or a list, as float64; a ValueError where they are none."""
    return np.asarray(value.values if isinstance(value, _Array) else value, np.float64)
