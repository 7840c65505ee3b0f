"""Whether a volume file is whole: ITK fills what is missing, and what is no number, with zeros, and checks no sums.

No file makes it read another one than that of its own voxels, and none is unpacked further than its header tells.
"""

import gzip
import math
import os
import struct
import zlib
from collections.abc import Callable
from functools import lru_cache
from io import BufferedIOBase, BufferedReader
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from medseg_kd.datasets.headers import checked_bytes
from medseg_kd.datasets.text_headers import TEXT_HEADERS, check_voxels, read_text_header
from medseg_kd.errors import UserError, first_line

_Source = TypeVar("_Source")
_Content = TypeVar("_Content")
_BLOCK = 1 << 20
_GZIP = b"\x1f\x8b"
_VOXELS = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
# Headers of NIfTI-1 and NIfTI-2, by their length: the type and place of each field.
_FIELDS: dict[int, dict[str, tuple[str, int]]] = {
    348: dict(length=("i4", 0), magic=("S2", 344), dims=("8i2", 40), kind=("i2", 70), start=("f4", 108))
    | dict(spacing=("8f4", 76), codes=("2i2", 252), qform=("6f4", 256), sform=("12f4", 280)),
    540: dict(length=("i4", 0), magic=("S2", 4), dims=("8i8", 16), kind=("i2", 12), start=("i8", 168))
    | dict(spacing=("8f8", 104), codes=("2i4", 344), qform=("6f8", 352), sform=("12f8", 400)),
}
_NIFTI = {
    length: np.dtype(
        {"names": [*at], "formats": [kind for kind, _ in at.values()], "offsets": [o for _, o in at.values()]}
    )
    for length, at in _FIELDS.items()
}
_MOST_EXTENSIONS = 64 << 20
"""Bytes before the voxels of a NIfTI file."""
_DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error, ValueError)


def packed_sum(path: Path) -> Callable[[np.ndarray], bool] | None:
    """What tells whether voxels are all that a packed NIfTI file holds, by the checksum at its end.

    It spares :func:`check_whole`, which unpacks the file once more. None for other files, for real numbers, and where
    the header makes no sense.
    """
    if path.suffix.lower() != ".gz":
        return None
    try:
        with path.open("rb") as file:
            if file.read(len(_GZIP)) != _GZIP:
                return None
            file.seek(-8, os.SEEK_END)
            said = file.read()
            file.seek(0)
            with gzip.GzipFile(fileobj=file) as content:
                header = content.read(max(_NIFTI))
                start, kind, shape = _voxels(header)
                header = header[:start] + content.read(max(0, start - len(header)))
    except (OSError, EOFError, zlib.error, ValueError):
        return None

    def holds(voxels: np.ndarray) -> bool:
        if voxels.dtype != kind or voxels.size != math.prod(shape):
            return False
        found = zlib.crc32(np.ascontiguousarray(voxels).data, zlib.crc32(header)), (start + voxels.nbytes) % (1 << 32)
        return said == struct.pack("<II", *found)

    return None if kind.kind == "f" else holds


def opened(source: _Source, read: Callable[[_Source], _Content]) -> _Content:
    """What a reader makes of a file, with one error for all the ways in which a file can be damaged."""
    if irregular := [path for path in paths_of(source) if not path.is_file()]:
        raise UserError(f"{irregular[0]} is no file that can be read: it is a folder, a device or not there")
    try:
        return read(source)
    except UserError:
        raise
    except MemoryError as error:
        raise MemoryError(f"{shown(source)}: {first_line(error)}") from error
    # Pillow, h5py, NumPy, zipfile and ITK have no common base for what they raise on damaged content.
    except Exception as error:
        if isinstance(error, (PermissionError, BlockingIOError)):
            problem = f"opened ({error}). Check its permissions, and that no other program holds it"
        else:
            problem = f"read ({first_line(error)}). The file is damaged or cut short: copy or prepare it again"
        raise UserError(f"{shown(source)} cannot be {problem}") from error


def paths_of(source: Any) -> list[Path]:
    """The files of a source, as far as it tells them."""
    if isinstance(source, tuple):
        return [path for each in source for path in paths_of(each)]
    return [source] if isinstance(source, Path) else []


def shown(source: Any) -> str:
    """A source in messages: its first file, or all that it has to say."""
    return str(next(iter(paths_of(source)), source))


def check_whole(path: Path, size: int | None = None) -> None:
    """Refuse a NIfTI, MetaImage or NRRD file that is damaged, and a NIfTI file with values that are no numbers.

    A file is read to its end once, and again when it has changed.

    Args:
        size: Bytes of the voxels, as ITK understands the header of a MetaImage or NRRD file; None where it does not.
    """
    try:
        state = path.stat()
        _check(path, size, state.st_size, state.st_mtime_ns)
    except _DAMAGE as error:
        raise UserError(f"cannot read {path}: damaged or cut short ({error}). Copy it again") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def check_header(path: Path) -> None:
    """Refuse a file that is not what its name says, or whose header leads ITK to other files or out of its buffers."""
    try:
        with path.open("rb") as file:
            if path.suffix.lower() in TEXT_HEADERS:
                read_text_header(file, path)
            else:
                with _unpacked(file) as content:
                    _told(content.read(max(_NIFTI)))
    except _DAMAGE as error:
        raise UserError(f"cannot read {path}: damaged or cut short ({error}). Copy it again") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


@lru_cache(maxsize=1 << 16)
def _check(path: Path, voxels: int | None, size: int, changed: int) -> None:
    """Check the file that has this size and time of change."""
    if path.suffix.lower() in TEXT_HEADERS:
        if voxels is not None:
            check_voxels(path, voxels)
        return
    with path.open("rb") as file, _unpacked(file) as content:
        bad, count = _check_nifti(content, path)
    if bad:
        raise UserError(f"{path}: {bad} of {count} values are NaN or infinite. Correct or leave out the file")


def _unpacked(file: BufferedReader) -> BufferedIOBase:
    """The content of a file that may be packed."""
    return gzip.GzipFile(fileobj=file) if file.peek(len(_GZIP))[: len(_GZIP)] == _GZIP else file


def _check_nifti(file: BufferedIOBase, path: Path) -> tuple[int, int]:
    """Read a file to its end; of its voxels, how many are no finite numbers, and how many there are."""
    start, kind, shape = _voxels(file.read(max(_NIFTI)))
    size = missing = checked_bytes(shape, kind, path)
    bad = 0
    if file.seek(start) == start:
        while missing and (block := file.read(min(_BLOCK, missing))):
            missing -= len(block)
            if kind.kind == "f":
                values = np.frombuffer(block, kind, len(block) // kind.itemsize)
                bad += values.size - int(np.isfinite(values).sum())
    if missing:
        raise EOFError(f"{missing} bytes of {size} are missing")
    if len(file.read(_BLOCK)) == _BLOCK:
        raise EOFError(f"more follows the {size} bytes that its header tells")
    return bad, math.prod(shape)


def _voxels(header: bytes) -> tuple[int, np.dtype, list[int]]:
    """Where the voxels of a NIfTI file begin, of what type they are, and its shape."""
    said, is_native = _told(header)
    if int(said["kind"]) not in _VOXELS:
        raise ValueError("its header tells of no numbers")
    kind = np.dtype(_VOXELS[int(said["kind"])])
    start = max(int(said["start"]), int(said["length"]))
    return start, kind if is_native else kind.newbyteorder(), said["dims"][1 : 1 + said["dims"][0]].tolist()


def _told(header: bytes) -> tuple[np.void, bool]:
    """What the header of a NIfTI file tells, and whether in the byte order of this machine."""
    for length, own in _NIFTI.items():
        for layout in (own, own.newbyteorder()) if len(header) >= length else ():
            said = np.frombuffer(header, layout, 1)[0]
            if said["length"] == length and said["magic"] == b"n+":
                count, *sizes = said["dims"].tolist()
                if not 0 < count < 8 or min(sizes[:count]) < 1 or not 0 <= said["start"] <= _MOST_EXTENSIONS:
                    raise ValueError("the sizes in its header make no sense")
                _check_place(said, sizes[: min(count, 3)])
                return said, layout is own
    raise ValueError("no header of a NIfTI file that holds its own voxels")


def _check_place(said: np.void, sizes: list[int]) -> None:
    """Refuse voxel sizes of which ITK makes 1 mm, and an affine that is no number, on which it may never end."""
    spacing = said["spacing"][1 : 1 + len(sizes)]
    if not np.isfinite(spacing).all() or any(each == 0 for each, size in zip(spacing, sizes, strict=True) if size > 1):
        raise ValueError(f"the voxel sizes in its header are {', '.join(f'{each:g}' for each in spacing)}")
    for name, code in zip(("qform", "sform"), said["codes"], strict=True):
        if code > 0 and not np.isfinite(said[name]).all():
            raise ValueError(f"the {name} in its header holds {', '.join(f'{each:g}' for each in said[name])}")
