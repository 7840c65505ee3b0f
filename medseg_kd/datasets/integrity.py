"""Whether a volume file is whole: ITK fills what is missing, and what is no number, with zeros, and checks no sums."""

import gzip
import math
import os
import struct
import zlib
from functools import lru_cache
from io import BufferedIOBase
from pathlib import Path

import numpy as np

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
# What a header says, without blanks, where the voxels are packed, and how its last line begins.
_PACKED = {".mha": (b"compresseddata=true", b"elementdatafile"), ".nrrd": (b"encoding:gzip", b"")}
_ANY_HEADER = 47  # zlib's or gzip's


def check_whole(path: Path, voxels: np.ndarray | None = None) -> None:
    """Refuse a NIfTI, MetaImage or NRRD file that is damaged, and a NIfTI file with values that are no numbers.

    A file is read to its end once, and again when it has changed; not at all where its checksum is that of the voxels
    that were read from it.
    """
    try:
        if voxels is not None and path.suffix.lower() == ".gz" and _has_sum_of(path, voxels):
            return
        state = path.stat()
        _check(path, state.st_size, state.st_mtime_ns)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"cannot read {path}: damaged or cut short ({error}). Copy it again") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _has_sum_of(path: Path, voxels: np.ndarray) -> bool:
    """Whether the checksum at the end of a packed NIfTI file is that of its header and of these whole numbers."""
    with path.open("rb") as file:
        if file.read(len(_GZIP)) != _GZIP:
            return False
        file.seek(-8, os.SEEK_END)
        said = file.read()
        file.seek(0)
        with gzip.GzipFile(fileobj=file) as content:
            start, kind, count = _voxels(header := content.read(max(_NIFTI)))
            header = header[:start] + content.read(max(0, start - len(header)))
    if voxels.dtype.kind == "f" or voxels.dtype != kind or voxels.size != count:
        return False
    found = zlib.crc32(np.ascontiguousarray(voxels).data, zlib.crc32(header)), (start + voxels.nbytes) % (1 << 32)
    return said == struct.pack("<II", *found)


@lru_cache(maxsize=1 << 16)
def _check(path: Path, size: int, changed: int) -> None:
    """Check the file that has this size and time of change."""
    kind = path.suffix.lower()
    if kind not in (*_PACKED, ".nii", ".gz"):
        return
    with path.open("rb") as file:
        if kind in _PACKED:
            _check_packed(file, kind)
            return
        packed = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        with gzip.GzipFile(fileobj=file) if packed else file as content:
            bad, count = _check_nifti(content)
    if bad:
        raise UserError(f"{path}: {bad} of {count} values are NaN or infinite. Correct or leave out the file")


def _check_nifti(file: BufferedIOBase) -> tuple[int, int]:
    """Read a file to its end; of its voxels, how many are no finite numbers, and how many there are."""
    start, kind, count = _voxels(file.read(max(_NIFTI)))
    missing, bad = count * kind.itemsize, 0
    if file.seek(start) == start:
        while missing and (block := file.read(min(_BLOCK, missing))):
            missing -= len(block)
            if kind.kind == "f":
                values = np.frombuffer(block, kind, len(block) // kind.itemsize)
                bad += values.size - int(np.isfinite(values).sum())
    if missing:
        raise EOFError(f"{missing} bytes of {count * kind.itemsize} are missing")
    while file.read(_BLOCK):
        pass
    return bad, count


def _voxels(header: bytes) -> tuple[int, np.dtype, int]:
    """Where the voxels of a NIfTI file begin, of what type they are and how many; none of another kind of file."""
    for length, own in _NIFTI.items():
        for layout in (own, own.newbyteorder()) if len(header) >= length else ():
            said = np.frombuffer(header, layout, 1)[0]
            (count, *sizes), start, voxel = said["dims"].tolist(), said["start"].item(), _VOXELS.get(int(said["kind"]))
            sensible = 0 < count < 8 and min(sizes[:count]) > 0 and math.isfinite(start)
            if said["length"] == length and said["magic"] == b"n+" and voxel and sensible:
                kind = np.dtype(voxel) if layout is own else np.dtype(voxel).newbyteorder()
                return max(int(start), length), kind, math.prod(sizes[:count])
    return 0, np.dtype("u1"), 0


def _check_packed(file: BufferedIOBase, kind: str) -> None:
    """Unpack the voxels that follow a header of text; their end holds a checksum. If not packed, ITK counts them."""
    mark, last = _PACKED[kind]
    packed, said, size = False, b"", 0
    for line in file:
        text = line.lower().replace(b" ", b"").strip()
        key, _, value = text.partition(b"=")
        packed |= text == mark
        said = value if key == b"compresseddatasize" else said
        if key == last:
            break
    unpacker = zlib.decompressobj(_ANY_HEADER)
    while packed and not unpacker.eof:
        if not (block := file.read(_BLOCK)):
            raise EOFError("the compressed voxels end early")
        size += len(block)
        unpacker.decompress(block)
    # Of a MetaImage with another size, or none, ITK leaves the voxels unset.
    if packed and kind == ".mha" and said != b"%d" % (size - len(unpacker.unused_data)):
        raise EOFError("CompressedDataSize in the header is not that of the voxels")
