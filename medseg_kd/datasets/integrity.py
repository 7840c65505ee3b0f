"""Whether a volume file is whole: ITK fills what is missing with zeros and does not compare checksums."""

import gzip
import math
import struct
import zlib
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from medseg_kd.errors import UserError

_BLOCK = 1 << 20
_GZIP = b"\x1f\x8b"
_VOXEL_BYTES = {2: 1, 4: 2, 8: 4, 16: 4, 64: 8, 256: 1, 512: 2, 768: 4, 1024: 8, 1280: 8}
# By the length of a header: place of the magic; place and type of the dimensions; place of the voxel type; place and
# type of the offset of the voxels.
_NIFTI = {348: (344, 40, "h", 70, 108, "f"), 540: (4, 16, "q", 12, 168, "q")}


def check_whole(path: Path) -> None:
    """Refuse a NIfTI or MetaImage file that is cut short or does not fit its checksum; others are left to ITK.

    A file is read to its end once, and again when it has changed.

    Raises:
        UserError: The file is damaged.
    """
    try:
        state = path.stat()
        _check(path, state.st_size, state.st_mtime_ns)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"cannot read {path}: damaged or cut short ({error}). Copy it again") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


@lru_cache(maxsize=1 << 16)
def _check(path: Path, size: int, changed: int) -> None:
    """Check the file that has this size and time of change."""
    name = path.name.lower()
    if name.endswith(".mha"):
        with path.open("rb") as file:
            _check_packed_metaimage(file)
    elif name.endswith((".nii", ".nii.gz")):
        with path.open("rb") as file:
            header = file.read(max(_NIFTI))
        if header.startswith(_GZIP):
            with gzip.open(path) as unpacked:
                header = unpacked.read(max(_NIFTI))
                size = len(header) + sum(map(len, iter(lambda: unpacked.read(_BLOCK), b"")))
        if size < (promised := _promised(header)):
            raise EOFError(f"{size} bytes, its header speaks of {promised}")


def _promised(header: bytes) -> int:
    """Least length of the NIfTI file with this header; 0 where it is another kind of file."""
    for order in "<>":
        for length, (magic, dims, integer, kind, offset, number) in _NIFTI.items():
            if len(header) < length or struct.unpack_from(f"{order}i", header)[0] != length:
                continue
            count, *sizes = struct.unpack_from(f"{order}8{integer}", header, dims)
            voxel = _VOXEL_BYTES.get(struct.unpack_from(f"{order}h", header, kind)[0], 0)
            start = struct.unpack_from(f"{order}{number}", header, offset)[0]
            if header[magic : magic + 2] == b"n+" and 0 < count < 8 and math.isfinite(start):
                return int(start) + voxel * math.prod(sizes[:count])
    return 0


def _check_packed_metaimage(file: BinaryIO) -> None:
    """Unpack the voxels of a MetaImage file, which end with a checksum; those that are not packed ITK counts itself."""
    packed = False
    for line in file:
        key, _, value = (part.strip().lower() for part in line.partition(b"="))
        packed |= (key, value) == (b"compresseddata", b"true")
        if key == b"elementdatafile":
            break
    unpacker = zlib.decompressobj()
    while packed and not unpacker.eof:
        if not (block := file.read(_BLOCK)):
            raise EOFError("the compressed voxels end early")
        unpacker.decompress(block)
