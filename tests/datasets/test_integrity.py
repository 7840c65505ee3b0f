"""What is read from a packed file is proved to be whole by the checksum at its end."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medseg_kd.datasets import volumes
from medseg_kd.datasets.integrity import packed_sum
from medseg_kd.datasets.volumes import read_image
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
