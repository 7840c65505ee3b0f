"""Arrays of npz files, of which nothing is unpacked before its size is known."""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medseg_kd.datasets.headers import checked_bytes, require
from medseg_kd.errors import UserError

_BLOCK = 1 << 18
_HEADER = 1 << 14
"""Bytes in which the header of an array of numbers has ample room."""
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_npz(
    path: Path, names: Sequence[str], optional: Sequence[str] = (), texts: Sequence[str] = ()
) -> dict[str, Any]:
    """Read arrays of numbers by their names; no more memory is taken than their checked headers tell.

    Args:
        names: Arrays that must be there.
        optional: Arrays that are read where they are there.
        texts: Arrays of texts, likewise.

    Raises:
        UserError: One is not there, is none of numbers, too large, or of another size than its header tells.
        Exception: What zipfile, zlib and NumPy raise on damage; checksums are compared.
    """
    with zipfile.ZipFile(path) as file:
        members = {info.filename.removesuffix(".npy"): info for info in file.infolist()}
        require(names, members, path)
        chosen = (*names, *(name for name in (*optional, *texts) if name in members))
        return {name: _read(file, members[name], f"{path}: {name}", name in texts) for name in chosen}


def _read(file: zipfile.ZipFile, info: zipfile.ZipInfo, where: str, is_text: bool) -> np.ndarray:
    """One array."""
    if info.flag_bits & 1 or info.compress_type not in _METHODS:
        how = "encrypted" if info.flag_bits & 1 else "packed by a method that is not NumPy's"
        raise UserError(f"{where} is {how}. Save it with numpy.savez_compressed")
    with file.open(info) as member:
        start = member.read(_HEADER)
        header = io.BytesIO(start)
        version = np.lib.format.read_magic(header)
        if version not in _HEADERS:
            raise UserError(f"{where}: expected an array of numbers. Save it with numpy.savez_compressed")
        shape, is_fortran, kind = _HEADERS[version](header)
        if is_text and kind.kind == "U":  # four bytes a letter
            size = checked_bytes((*shape, kind.itemsize // 4), np.dtype("u4"), where)
        else:
            size = checked_bytes(shape, kind, where)
        there = info.file_size - header.tell()
        if size != there:
            raise UserError(f"{where}: its header tells {size} bytes, but {there} follow. Copy or prepare it again")
        content = np.empty(size, np.uint8)
        place = header.readinto(content.data)
        while place < size:
            block = member.read(min(_BLOCK, size - place))
            if not block:
                raise EOFError(f"{size - place} bytes of {size} are missing")
            content[place : place + len(block)] = np.frombuffer(block, np.uint8)
            place += len(block)
    array = content.view(kind)
    return array.reshape(shape[::-1]).T if is_fortran else array.reshape(shape)
