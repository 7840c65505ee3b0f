"""What an HDF5 file may ask for, and what HDF5 would make of it."""

import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from medseg_kd.datasets.hdf5 import find_arrays, read_array, read_numbers, read_word
from medseg_kd.datasets.integrity import opened
from medseg_kd.errors import UserError

GOOD = np.random.default_rng(0).random((3, 7, 5)).astype(np.float32)
CHUNKS = dict(chunks=(1, 7, 5))


def read(path: Path) -> np.ndarray:
    """The array ``image``, and the attributes."""
    with h5py.File(path, "r") as file:
        read_numbers(path, file, "spacing")
        read_word(path, file, "word")
        return read_array(path, *find_arrays(path, file, ["image"]))


def write(path: Path, fill: Callable[[h5py.File], object]) -> Path:
    """A file that a function fills."""
    with h5py.File(path, "w") as file:
        fill(file)
    return path


@pytest.mark.parametrize(
    "options",
    [
        {},
        CHUNKS,
        dict(compression="gzip", chunks=(2, 4, 3)),
        dict(compression="gzip", shuffle=True, **CHUNKS),
        dict(compression="gzip", shuffle=True, fletcher32=True, **CHUNKS),
        dict(compression="lzf", **CHUNKS),
    ],
    ids=["plain", "chunks", "uneven", "shuffled", "summed", "lzf"],
)
@pytest.mark.parametrize("kind", ["<f4", ">f8", "i2", "u1", "?", "f2"])
def test_arrays_come_back(tmp_path: Path, options: dict, kind: str) -> None:
    array = (GOOD * 9).astype(kind)
    path = write(tmp_path / "a.h5", lambda file: file.create_dataset("image", data=array, **options))
    found = read(path)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_chunks_that_do_not_get_smaller_are_stored_as_they_are(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 300, 300)).astype(np.uint8)
    path = write(tmp_path / "a.h5", lambda file: file.create_dataset("image", data=noise, compression="gzip"))
    np.testing.assert_array_equal(read(path), noise)


def bomb(file: h5py.File) -> None:
    """Chunks of 140 bytes that unpack to 4 MiB."""
    array = file.create_dataset("image", GOOD.shape, "f4", compression="gzip", **CHUNKS)
    for index in range(3):
        array.id.write_direct_chunk((index, 0, 0), zlib.compress(bytes(4 << 20))[:4000])


def half(file: h5py.File) -> None:
    """Of three chunks one was written."""
    file.create_dataset("image", GOOD.shape, "f4", **CHUNKS)[0] = 1


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (lambda file: file.create_dataset("image", (1 << 20,) * 3, "f4", chunks=(1, 64, 64)), "at most .* are read"),
        (lambda file: file.create_dataset("image", GOOD.shape, "f4"), "image was never written"),
        (half, r"image: the part at \(1, 0, 0\) was never written"),
        (bomb, "cut short, or are more than its header tells"),
        (lambda file: file.create_dataset("image", data=GOOD, scaleoffset=3), "of an unusual type or packing"),
        (lambda file: file.create_dataset("image", data=GOOD.astype(complex)), "an array of complex128"),
        (lambda file: file.create_dataset("image", data=["a", "b"]), "an array of object"),
        (lambda file: file.create_group("image"), "image is no array"),
        (lambda file: file.create_dataset("image", data=h5py.Empty("f4")), "image is no array"),
        (lambda file: file.create_dataset("scan", data=GOOD), "holds scan, expected image"),
        (lambda file: file.update(image=h5py.SoftLink("/image")), "image is a link to another file or place"),
        (lambda file: file.attrs.update(spacing="far"), "attribute spacing is object .*expected a few numbers"),
        (lambda file: file.attrs.update(spacing=np.zeros(99)), r"of shape \(99,\), expected a few numbers"),
        (lambda file: file.attrs.update(word=5), "attribute word is int64 .*expected a text"),
    ],
)
def test_what_a_file_may_not_tell(tmp_path: Path, fill: Callable, message: str) -> None:
    path = write(tmp_path / "a.h5", fill)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=rf"a\.h5.*{message}"):
            opened(path, read)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_a_link_is_not_even_looked_behind(tmp_path: Path) -> None:
    """Behind it may be what never ends."""
    path = write(tmp_path / "a.h5", lambda file: file.update(image=h5py.ExternalLink("b.h5", "image")))
    (tmp_path / "b.h5").mkdir()
    with pytest.raises(UserError, match="image is a link to another file"):
        opened(path, read)


@pytest.mark.parametrize("reserved", [b"\0\0\0", b"n\0\0"])
def test_a_heap_that_hdf5_would_read_for_ever(tmp_path: Path, reserved: bytes) -> None:
    path = write(
        tmp_path / "a.h5", lambda file: (file.create_dataset("image", data=GOOD), file.attrs.update(word="LPS"))
    )
    assert np.array_equal(read(path), GOOD)
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    content[heap + 5 : heap + 8] = reserved  # at which HDF5 does not look
    content[heap + 16 + 24 + 8 : heap + 16 + 24 + 16] = bytes(
        8
    )  # the length of the second entry, the room that is left
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.h5 cannot be read \(a text in it is damaged\)"):
        opened(path, read)


@pytest.mark.parametrize("version", ["earliest", "latest"])
def test_a_text_that_is_longer_than_its_file_takes_no_memory(tmp_path: Path, version: str) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver=version) as file:
        file.create_dataset("image", data=GOOD)
        file.attrs["word"] = "LPS"
    assert np.array_equal(read(path), GOOD)
    content = bytearray(path.read_bytes())
    at = content.index(b"\3\0\0\0", content.index(b"word\0"))
    content[at : at + 4] = b"\xff\xff\xff\x7f"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.h5 cannot be read .*damaged"):
        opened(path, read)


def test_what_another_program_writes(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    path = write(tmp_path / "a.h5", lambda file: file.create_dataset("image", data=GOOD))
    with (
        path.open("r+") as held,
        pytest.raises(UserError, match=r"a\.h5 cannot be opened .*that no other program holds"),
    ):
        fcntl.flock(held, fcntl.LOCK_EX)
        opened(path, read)
