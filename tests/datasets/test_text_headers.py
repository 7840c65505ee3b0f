"""Headers of text that ITK would follow elsewhere, or out of its buffers."""

import gzip
import zlib
from pathlib import Path

import numpy as np
import pytest

from medseg_kd.datasets.volumes import read_header, read_volume
from medseg_kd.errors import UserError

VOXELS = np.arange(24, dtype=np.int16).tobytes()
META = """ObjectType = Image
NDims = 3
BinaryData = True
CompressedData = False
ElementSpacing = 1 1 1
DimSize = 4 3 2
ElementType = MET_SHORT
ElementDataFile = LOCAL
"""
NRRD = """NRRD0004
type: short
dimension: 3
space: left-posterior-superior
sizes: 4 3 2
space directions: (1,0,0) (0,1,0) (0,0,1)
encoding: raw
endian: little
space origin: (0,0,0)

"""
META_PACKED = "CompressedData = True\nCompressedDataSize = {}"


def write(folder: Path, old: str, new: str, voxels: bytes) -> Path:
    """A MetaImage file, or an NRRD file where its header has the old line."""
    name, header = ("a.mha", META) if old in META else ("a.nrrd", NRRD)
    assert old in header
    path = folder / name
    path.write_bytes(header.replace(old, new).encode() + voxels)
    return path


@pytest.mark.parametrize(
    ("old", "new", "voxels"),
    [
        ("NDims", "NDims", VOXELS),
        ("NDims", "Comment = Prüfung\nNDims", VOXELS),
        ("CompressedData = False", META_PACKED.format(len(zlib.compress(VOXELS))), zlib.compress(VOXELS)),
        ("LOCAL", "beside.raw", b""),
        ("NRRD0004", "NRRD0004", VOXELS),
        ("encoding: raw", "encoding: gzip", gzip.compress(VOXELS, mtime=0)),
        ("encoding: raw", "encoding: raw\n# remark\nSegment0_Name:=" + "a" * 999, VOXELS),
        ("encoding: raw", "encoding: raw\ndata file: beside.raw", b""),
    ],
)
def test_volumes_that_are_read(tmp_path: Path, old: str, new: str, voxels: bytes) -> None:
    (tmp_path / "beside.raw").write_bytes(VOXELS)
    raw = read_volume([write(tmp_path, old, new, voxels)], None)
    assert raw.image.shape == (1, 2, 3, 4) and raw.image.tobytes() == VOXELS


@pytest.mark.parametrize(
    ("old", "new"),
    [
        *(("LOCAL", name) for name in ("/etc/hostname", "../a.raw", "LIST", "a%d.raw 1 2 1", "C:a.raw", "")),
        ("ElementDataFile =", "ElementDataFile : /a\nElementDataFile ="),
        ("NDims = 3", "NDims = 99"),
        ("DimSize = 4", "DimSize = -4"),
        ("DimSize", "Size"),
        ("ElementDataFile", "ElementData File"),
        ("DimSize", "Dim Size"),
        ("NDims", "Comment = " + "a" * 5000 + "\nNDims"),
        ("BinaryData = True", "BinaryData = False"),
        *(
            ("encoding: raw", f"encoding: raw\n{line}")
            for line in ("data file: /etc/hostname", "DATAFILE: ../a", "data file: LIST")
        ),
        ("encoding: raw", "encoding: ascii"),
        ("encoding: raw", "encoding: raw\nencoding: raw"),
        ("dimension: 3", "dimension: 99"),
        ("encoding: raw", "units: " + "1" * 130 + "\nencoding: raw"),  # ends the process in ITK, as does the next
        ("NDims", "BinaryDataByteOrderMSB = " + "1e308 " * 60 + "\nNDims"),
        ("encoding: raw", "axis mins: " + "99999 " * 60 + "x\nencoding: raw"),
        ("encoding: raw", "kinds: " + "a" * 5000 + ":=\nencoding: raw"),  # runs over a buffer of ITK, ends the process
    ],
)
def test_headers_that_itk_does_not_see(tmp_path: Path, capfd: pytest.CaptureFixture[str], old: str, new: str) -> None:
    path = write(tmp_path, old, new, VOXELS)
    with pytest.raises(UserError, match=path.name):
        read_header(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("old", "new", "voxels", "message"),
    [
        ("DimSize = 4 3 2", "DimSize = 40000 40000 40000", VOXELS, "at most .* are read"),
        ("DimSize = 4 3 2", "DimSize = 400 300 200", VOXELS, "48 bytes of voxels, where its header tells 48000000"),
        ("sizes: 4 3 2", "sizes: 400 300 200", VOXELS, "48 bytes of voxels, where its header tells 48000000"),
        (
            "encoding: raw",
            "encoding: gz",
            gzip.compress(bytes(4 << 20), mtime=0),
            "bytes of voxels, where its header tells 48",
        ),
        ("CompressedData = False", META_PACKED.format(9), zlib.compress(VOXELS), "CompressedDataSize"),
        ("encoding: raw", "encoding: gzip", gzip.compress(VOXELS, mtime=0)[:-9], "end early"),
        ("LOCAL", "absent.raw", b"", "absent.raw, which is not beside it"),
    ],
)
def test_voxels_that_are_not_those_of_the_header(
    tmp_path: Path, old: str, new: str, voxels: bytes, message: str
) -> None:
    path = write(tmp_path, old, new, voxels)
    with pytest.raises(UserError, match=message):
        read_volume([path], None)
