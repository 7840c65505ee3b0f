"""What an npz file may ask for."""

import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from medseg_kd.datasets.headers import VARIABLE
from medseg_kd.datasets.integrity import opened
from medseg_kd.datasets.npz import read_npz
from medseg_kd.errors import UserError

GOOD = np.arange(12, dtype=np.float32).reshape(3, 4)


def array_file(array: np.ndarray) -> bytes:
    """An array as NumPy writes it."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array)
    return buffer.getvalue()


def header(*shape: int, kind: str = "<f4") -> bytes:
    """The header of an array, without its values."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode()


def write(path: Path, image: bytes, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """An npz file of one member."""
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("image.npy", image)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "array", [GOOD, np.asfortranarray(GOOD), GOOD.astype(">i2"), GOOD > 3, GOOD[:0], np.tile(GOOD, (500, 50))]
)
def test_arrays_come_back(tmp_path: Path, save, array: np.ndarray) -> None:
    save(tmp_path / "a.npz", image=array, other=GOOD)
    found = read_npz(tmp_path / "a.npz", ["image"], ["other", "absent"])
    assert found.keys() == {"image", "other"} and found["image"].dtype == array.dtype
    np.testing.assert_array_equal(found["image"], array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header(2**20, 2**23), "its header tells 1048576x8388608 = 8796093022208 values; at most 1073741824 are read"),
        (header(-3, 4), "its header tells -3x4"),
        (header(3, 4) + bytes(1 << 24), "its header tells 48 bytes, but 16777216 follow"),
        (header(2**13, 2**14) + bytes(1 << 10), "its header tells 536870912 bytes, but 1024 follow"),
        (header(3, kind="|O") + bytes(24), "an array of object, expected whole or real numbers"),
        (header(3, kind="<M8[s]") + bytes(24), "an array of datetime64"),
        (b"\x93NUMPY\3\0" + header(3)[8:], "expected an array of numbers"),
        (header(3)[:40], "cannot be read"),
    ],
    ids=["huge", "negative", "bomb", "short", "object", "date", "version", "cut"],
)
def test_what_a_header_may_not_tell(tmp_path: Path, content: bytes, message: str) -> None:
    path = write(tmp_path / "a.npz", content)
    del content
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=rf"a\.npz.*{message}"):
            opened(path, lambda file: read_npz(file, ["image"]))
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("method", "how"), [(zipfile.ZIP_LZMA, "packed by"), (zipfile.ZIP_STORED, "encrypted")])
def test_members_that_numpy_did_not_write(tmp_path: Path, method: int, how: str) -> None:
    path = write(tmp_path / "a.npz", array_file(GOOD), method)
    if how == "encrypted":
        content = bytearray(path.read_bytes())
        content[content.index(b"PK\1\2") + 8] |= 1
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.npz: image is {how}"):
        read_npz(path, ["image"])


def test_a_flipped_bit(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz", array_file(GOOD), zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.index(GOOD.tobytes()) + 9] ^= 4
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.npz cannot be read \(Bad CRC"):
        opened(path, lambda file: read_npz(file, ["image"]))


def test_the_limit_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.npz", array_file(GOOD))
    monkeypatch.setenv(VARIABLE, "11")
    with pytest.raises(UserError, match=f"3x4 = 12 values; at most 11 are read.*{VARIABLE}"):
        read_npz(path, ["image"])
    monkeypatch.setenv(VARIABLE, "many")
    with pytest.raises(UserError, match=f"{VARIABLE} is 'many' in the environment: expected a number"):
        read_npz(path, ["image"])
