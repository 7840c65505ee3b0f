"""What is read from a packed file is proved to be whole by the checksum at its end."""

import math
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medseg_kd.datasets import volumes
from medseg_kd.datasets.integrity import packed_sum
from medseg_kd.datasets.volumes import read_header, read_image
from medseg_kd.errors import UserError
from tests.datasets.volume_files import ct_and_label, write_volume

CT, LABEL = ct_and_label()


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read once more, to their end."""
    names: list[str] = []
    check = volumes.check_whole
    monkeypatch.setattr(volumes, "check_whole", lambda path, *size: (names.append(path.name), check(path, *size)))
    return names


@pytest.mark.parametrize("array", [CT, LABEL, LABEL.astype(np.uint16)], ids=["int16", "uint8", "uint16"])
def test_whole_numbers_are_proved_by_their_sum(tmp_path: Path, array: np.ndarray, unpacked: list[str]) -> None:
    path = write_volume(tmp_path / "a.nii.gz", array, orientation="RAS")
    voxels = sitk.GetArrayFromImage(read_image(path))
    assert not unpacked
    proved = packed_sum(path)
    assert proved is not None and proved(voxels)
    voxels[1, 2, 3] += 1
    assert not proved(voxels) and not proved(voxels[1:])


def test_others_are_read_to_their_end(tmp_path: Path, unpacked: list[str]) -> None:
    for name, array in (("a.nii.gz", CT.astype(np.float32)), ("b.nii", CT), ("c.mha", CT)):
        read_image(write_volume(tmp_path / name, array))
    assert unpacked == ["a.nii.gz", "b.nii", "c.mha"]


@pytest.mark.parametrize("end", [-4, -9, -20])
def test_what_is_cut_short_has_another_sum(tmp_path: Path, end: int) -> None:
    path = write_volume(tmp_path / "a.nii.gz", CT)
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(UserError, match="a.nii.gz: damaged or cut short"):
        read_image(path)


# Offsets in a NIfTI-1 header.
SPACING, CODES, QUATERNION, SFORM = 76, 252, 256, 280


@pytest.mark.parametrize(
    ("numbers", "codes", "told"),
    [
        ({SPACING + 8: math.nan}, (1, 1), "the voxel sizes in its header are 1.5, nan, 3"),
        ({SPACING + 12: math.inf}, (1, 1), "the voxel sizes in its header are 1.5, 2, inf"),
        ({SPACING + 4: 0.0}, (1, 1), "the voxel sizes in its header are 0, 2, 3"),
        ({QUATERNION: math.nan}, (1, 0), "the qform in its header holds nan"),
        ({SFORM + 40: -math.inf, SFORM + 44: math.nan}, (0, 1), "the sform in its header holds .*-inf, nan"),
        ({QUATERNION: math.nan}, (0, 1), None),
        ({SFORM + 40: math.nan}, (1, 0), None),
    ],
)
def test_a_place_that_is_no_number_is_refused_before_itk_reads_it(
    tmp_path: Path, numbers: dict[int, float], codes: tuple[int, int], told: str | None
) -> None:
    """ITK makes 1 mm of such a voxel size, and of some such affines it never finds an end."""
    path = write_volume(tmp_path / "a.nii", CT)
    content = bytearray(path.read_bytes())
    struct.pack_into("<2h", content, CODES, *codes)
    for offset, number in numbers.items():
        struct.pack_into("<f", content, offset, number)
    path.write_bytes(content)
    if told is None:
        assert read_header(path).spacing == (1.5, 2, 3)
        return
    with pytest.raises(UserError, match=told):
        read_header(path)


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
@pytest.mark.parametrize("place", [1, 8], ids=["sheared", "no unit vector"])
def test_axes_that_are_not_at_right_angles_are_refused_in_every_format(tmp_path: Path, ending: str, place: int) -> None:
    path = write_volume(tmp_path / f"a{ending}", CT, spacing=(1, 1, 1))
    content = path.read_bytes()
    direction = [1, 0, 0, 0, 1, 0, 0, 0, 1]
    direction[place] = 0.5
    if ending == ".mha":
        old, new = b"1 0 0 0 1 0 0 0 1", " ".join(map(str, direction)).encode()
    else:
        columns = [direction[axis * 3 : axis * 3 + 3] for axis in range(3)]
        old, new = b"(1,0,0) (0,1,0) (0,0,1)", " ".join(f"({','.join(map(str, each))})" for each in columns).encode()
    assert old in content
    path.write_bytes(content.replace(old, new))
    if ending == ".nrrd" and place == 8:  # there its length is the spacing
        assert read_header(path).spacing == (1, 1, 0.5)
        return
    with pytest.raises(UserError, match="not at right angles"):
        read_header(path)
