"""Whether a volume file is whole: ITK fills what is missing, and what is no number, with zeros, and checks no sums.

No file makes it read another one than that of its own voxels, and none is unpacked further than its header tells.
"""

import gzip
import math
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from io import BufferedIOBase
from pathlib import Path

import numpy as np

from medseg_kd.datasets.headers import checked_bytes
from medseg_kd.datasets.listings import is_plain_name
from medseg_kd.errors import UserError

_BLOCK = 1 << 20
_GZIP = b"\x1f\x8b"
_VOXELS = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_FIELDS = ("length", "magic", "dims", "kind", "start")
# Headers of NIfTI-1 and NIfTI-2, by their length.
_NIFTI = {
    348: np.dtype({"names": _FIELDS, "formats": ("i4", "S2", "8i2", "i2", "f4"), "offsets": (0, 344, 40, 70, 108)}),
    540: np.dtype({"names": _FIELDS, "formats": ("i4", "S2", "8i8", "i2", "i8"), "offsets": (0, 4, 16, 12, 168)}),
}
_MOST_EXTENSIONS = 64 << 20
"""Bytes before the voxels of a NIfTI file."""
_MOST_LINES = 1000
_FIELD = re.compile(r"\s*([A-Za-z ]+?)\s*:?[=:]\s*(.*?)\s*")
# What a header tells of how the voxels are stored.
_SKIPS = {"lineskip", "byteskip", "headersize"}
_TOLD = {"datafile", "elementdatafile", "encoding", "compresseddata", "compresseddatasize", "binarydata", *_SKIPS}
_ANY_HEADER = 47  # zlib's or gzip's


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


def check_whole(path: Path, size: int | None = None) -> None:
    """Refuse a NIfTI, MetaImage or NRRD file that is damaged, and a NIfTI file with values that are no numbers.

    A file is read to its end once, and again when it has changed.

    Args:
        size: Bytes of the voxels, as ITK understands the header of a MetaImage or NRRD file; None where it does not.
    """
    try:
        state = path.stat()
        _check(path, size, state.st_size, state.st_mtime_ns)
    except (EOFError, gzip.BadGzipFile, zlib.error, ValueError) as error:
        raise UserError(f"cannot read {path}: damaged or cut short ({error}). Copy it again") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


@lru_cache(maxsize=1 << 16)
def _check(path: Path, voxels: int | None, size: int, changed: int) -> None:
    """Check the file that has this size and time of change."""
    with path.open("rb") as file:
        if path.suffix.lower() not in (".nii", ".gz"):
            if voxels is not None:
                _check_text_header(file, path, voxels)
            return
        packed = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        with gzip.GzipFile(fileobj=file) if packed else file as content:
            bad, count = _check_nifti(content, path)
    if bad:
        raise UserError(f"{path}: {bad} of {count} values are NaN or infinite. Correct or leave out the file")


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
    for length, own in _NIFTI.items():
        for layout in (own, own.newbyteorder()) if len(header) >= length else ():
            said = np.frombuffer(header, layout, 1)[0]
            (count, *sizes), start, voxel = said["dims"].tolist(), said["start"].item(), _VOXELS.get(int(said["kind"]))
            sensible = 0 < count < 8 and min(sizes[:count]) > 0 and 0 <= start <= _MOST_EXTENSIONS
            if said["length"] == length and said["magic"] == b"n+" and voxel and sensible:
                kind = np.dtype(voxel) if layout is own else np.dtype(voxel).newbyteorder()
                return max(int(start), length), kind, sizes[:count]
    raise ValueError("no header of a NIfTI file that holds its own voxels")


def _check_text_header(file: BufferedIOBase, path: Path, size: int) -> None:
    """Check a MetaImage or NRRD file, or one of its headers alone, whose voxels have this size."""
    is_nrrd = path.suffix.lower() in (".nrrd", ".nhdr")
    fields = [*_fields(file)]
    said = {name: value for name, value in fields if name in _TOLD}
    if sum(name in _TOLD for name, _ in fields) > len(said) or not (is_nrrd or "elementdatafile" in said):
        raise ValueError("its header does not tell once where its voxels are")
    elsewhere = said.get("datafile" if is_nrrd else "elementdatafile", "local")
    encoding = said.get("encoding", "").lower()
    packed = encoding in ("gzip", "gz") if is_nrrd else said.get("compresseddata", "").lower() == "true"
    skips = any(said.get(name, "0") != "0" for name in _SKIPS)
    if said.get("binarydata", "true").lower() != "true" or (is_nrrd and not packed and encoding != "raw"):
        raise UserError(f"{path}: its voxels are text, or packed in an unusual way. Save it raw or with gzip")
    if elsewhere.lower() != "local":
        if not is_plain_name(elsewhere) or elsewhere == "LIST" or "%" in elsewhere or " " in elsewhere:
            raise UserError(
                f"{path} takes its voxels from {elsewhere!r}: expected one file beside it. Save it with its voxels, as "
                ".mha or .nrrd"
            )
        beside = path.with_name(elsewhere)
        if not beside.is_file():
            raise UserError(f"{path} takes its voxels from {elsewhere}, which is not beside it. Copy both")
        with beside.open("rb") as voxels:
            unpacked, stored = _measured(voxels, packed, size)
    else:
        unpacked, stored = _measured(file, packed, size)
    if unpacked < size or (packed and (unpacked > size or skips)):
        raise EOFError(f"{unpacked} bytes of voxels, where its header tells {size}")
    # Of a MetaImage with another size, or none, ITK leaves the voxels unset.
    if packed and not is_nrrd and said.get("compresseddatasize") != str(stored):
        raise EOFError("CompressedDataSize in the header is not that of the voxels")


def _fields(file: BufferedIOBase) -> Iterator[tuple[str, str]]:
    """Names, in small letters and without blanks, and values of a header of text, up to its end."""
    for _ in range(_MOST_LINES):
        line = file.readline(_BLOCK)
        text = line.decode("latin-1").rstrip("\r\n")
        if match := _FIELD.fullmatch(text):
            name = match[1].replace(" ", "").lower()
            yield name, match[2]
            if name == "elementdatafile":
                return
        if not text.strip():
            return
    raise ValueError("a header of too many lines")


def _measured(file: BufferedIOBase, packed: bool, most: int) -> tuple[int, int]:
    """Bytes of the voxels that follow, unpacked no further than ``most``, and of what is stored."""
    if not packed:
        place = file.tell()
        return file.seek(0, 2) - place, 0
    unpacker, unpacked, stored = zlib.decompressobj(_ANY_HEADER), 0, 0
    while not unpacker.eof and unpacked <= most:
        block = unpacker.unconsumed_tail or file.read(_BLOCK)
        values = unpacker.decompress(block, _BLOCK)
        if not (block or values or unpacker.eof):
            raise EOFError("the compressed voxels end early")
        unpacked += len(values)
        stored += len(block) - len(unpacker.unconsumed_tail) - len(unpacker.unused_data)
    return unpacked, stored
