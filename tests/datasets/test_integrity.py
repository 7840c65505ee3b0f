"""What is read from a file is proved to be whole by the file's own checksum, where it has one."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medseg_kd.datasets import integrity
from medseg_kd.errors import UserError
from tests.datasets.volume_files import ct_and_label, write_volume

CT, LABEL = ct_and_label()


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read to their end."""
    names: list[str] = []
    check = integrity._check
    monkeypatch.setattr(integrity, "_check", lambda path, *state: (names.append(path.name), check(path, *state)))
    return names


@pytest.mark.parametrize("array", [CT, LABEL, LABEL.astype(np.uint16)], ids=["int16", "uint8", "uint16"])
def test_whole_numbers_are_proved_by_their_sum(tmp_path: Path, array: np.ndarray, unpacked: list[str]) -> None:
    path = write_volume(tmp_path / "a.nii.gz", array, orientation="RAS")
    voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    integrity.check_whole(path, voxels)
    assert not unpacked
    voxels[1, 2, 3] += 1
    integrity.check_whole(path, voxels)
    assert unpacked == ["a.nii.gz"]


def test_others_are_read_to_their_end(tmp_path: Path, unpacked: list[str]) -> None:
    for name, array in (("a.nii.gz", CT.astype(np.float32)), ("b.nii", CT), ("c.mha", CT)):
        path = write_volume(tmp_path / name, array)
        integrity.check_whole(path, sitk.GetArrayFromImage(sitk.ReadImage(str(path))))
    assert unpacked == ["a.nii.gz", "b.nii", "c.mha"]


def test_what_is_cut_short_has_another_sum(tmp_path: Path, unpacked: list[str]) -> None:
    path = write_volume(tmp_path / "a.nii.gz", CT)
    voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="a.nii.gz: damaged or cut short"):
        integrity.check_whole(path, voxels)
