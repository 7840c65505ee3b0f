"""Arrays and attributes of HDF5 files, read so that a damaged or hostile file neither hangs HDF5 nor fills memory.

HDF5 gives zeros for parts that were never written, follows links into other files, unpacks without a bound, and reads
for ever in a damaged heap of texts.
"""

import math
import mmap
import zlib
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from medseg_kd.datasets.headers import checked_bytes, require
from medseg_kd.errors import UserError

_GZIP, _SHUFFLE, _SUM, _LZF = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, 32000
_HEAP = b"GCOL\x01"
_MOST_NUMBERS = 16
_AGAIN = "Write it again, such as with file.create_dataset(name, data=array, compression='gzip')"


def find_arrays(path: Path, file: h5py.File, names: Sequence[str]) -> list[h5py.Dataset]:
    """Arrays of numbers by their names, each within the limit of size and in this very file."""
    require(names, file, path)
    found = []
    for name in names:
        where = f"{path}: {name}"
        # Asking for the array would open the file that a link leads to.
        array = file[name] if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
        if array is None or (isinstance(array, h5py.Dataset) and (array.is_virtual or array.external)):
            raise UserError(f"{where} is a link to another file or place, which is not followed. Copy the array here")
        if not isinstance(array, h5py.Dataset) or array.shape is None:
            raise UserError(f"{where} is no array. {_AGAIN}")
        checked_bytes(array.shape, array.dtype, where)
        found.append(array)
    return found


def read_array(path: Path, array: h5py.Dataset) -> np.ndarray:
    """The values of an array that :func:`find_arrays` found; those that nobody wrote are no zeros, but an error."""
    where, kind = f"{path}: {str(array.name).strip('/')}", array.dtype
    filters, layout = array.id.get_create_plist(), array.chunks
    packed = [filters.get_filter(index)[0] for index in range(filters.get_nfilters())]
    simple = array.id.get_type().equal(h5py.h5t.py_create(kind, logical=True))
    if not simple or len({*packed}) < len(packed) or not {*packed} <= {_GZIP, _SHUFFLE, _SUM, _LZF}:
        raise UserError(f"{where} is of an unusual type or packing. {_AGAIN}")
    size = checked_bytes(array.shape if layout is None else layout, kind, where)
    if layout is None:
        if array.id.get_storage_size() != size:
            raise UserError(f"{where} was never written. Prepare or copy the file again")
        return array[()]
    whole = np.empty(array.shape, kind)
    for place in array.iter_chunks():
        start = tuple(part.start for part in place)
        stored = array.id.get_chunk_info_by_coord(start).size
        if not 0 < stored <= size + size // 8 + 4096:
            raise UserError(f"{where}: the part at {start} was never written. Prepare or copy the file again")
        if _GZIP in packed:
            content = _unpacked(packed, kind, size, *array.id.read_direct_chunk(start))
        if {*packed} in ({_GZIP}, {_GZIP, _SHUFFLE}):
            chunk = content.view(kind).reshape(layout)
            whole[place] = chunk[tuple(slice(part.stop - part.start) for part in place)]
        else:
            whole[place] = array[place]
    return whole


def _unpacked(filters: Sequence[int], kind: np.dtype, size: int, skipped: int, content: bytes) -> np.ndarray:
    """The bytes of a chunk, once it is seen to unpack to this many; ``skipped`` has a bit for each filter left out."""
    applied = [each for index, each in enumerate(filters) if not skipped >> index & 1]
    content = content[:-4] if _SUM in applied else content
    if _GZIP in applied:
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(content, size + 1)
        if not unpacker.eof:
            raise EOFError("its compressed values are cut short, or are more than its header tells")
    if len(content) != size:
        raise EOFError(f"{len(content)} bytes in place of {size}")
    values = np.frombuffer(content, np.uint8)
    return values.reshape(kind.itemsize, -1).T.ravel() if _SHUFFLE in applied else values


def read_numbers(path: Path, file: h5py.File, name: str) -> np.ndarray | None:
    """A few numbers, from an attribute; None where there is none of this name."""
    if name not in file.attrs:
        return None
    kept = file.attrs.get_id(name)
    if kept.dtype.kind not in "iuf" or math.prod(kept.shape) > _MOST_NUMBERS:
        raise UserError(f"{path}: the attribute {name} is {kept.dtype} of shape {kept.shape}, expected a few numbers")
    return np.asarray(file.attrs[name])


def read_word(path: Path, file: h5py.File, name: str) -> str | None:
    """A text, from an attribute; None where there is none of this name."""
    if name not in file.attrs:
        return None
    kept = file.attrs.get_id(name)
    text = h5py.check_string_dtype(kept.dtype)
    if text is None or kept.shape:
        raise UserError(f"{path}: the attribute {name} is {kept.dtype} of shape {kept.shape}, expected a text")
    if text.length is None:
        with path.open("rb") as stored, mmap.mmap(stored.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if not (_heaps_end(content) and _text_fits(content, name.encode() + b"\0")):
                raise UserError(f"{path} cannot be read (a text in it is damaged): copy or prepare it again")
    value = file.attrs[name]
    return value.decode() if isinstance(value, bytes) else str(value)


def _heaps_end(content: mmap.mmap) -> bool:
    """False where an entry in a heap of texts has no length: HDF5 would look for the next one for ever."""
    start = content.find(_HEAP)
    while start >= 0:
        place = start + 16
        end = min(start + _number(content, start + 8), len(content))
        while place + 16 <= end:
            length = _number(content, place + 8)
            # Entry 0 is the room that is left, its head included.
            step = 16 + -(-length // 8) * 8 if content[place : place + 2] != b"\0\0" else length
            if not step:
                return False
            place += step
        start = content.find(_HEAP, start + len(_HEAP))
    return True


def _text_fits(content: mmap.mmap, name: bytes) -> bool:
    """False where an attribute's text is told to be longer than the file: HDF5 takes memory for it before it looks."""
    place = content.find(name)
    while place >= 0:
        for version, before, step in ((1, 8, 8), (2, 8, 1), (3, 9, 1)):
            head = place - before
            if head >= 0 and content[head] == version:
                # Of the name, of its type and of its shape; then comes the length of the text.
                sizes = [_number(content, head + at, 2) for at in (2, 4, 6)]
                if _number(content, place + sum(-(-size // step) * step for size in sizes), 4) > len(content):
                    return False
        place = content.find(name, place + 1)
    return True


def _number(content: mmap.mmap, place: int, size: int = 8) -> int:
    return int.from_bytes(content[place : place + size], "little")
