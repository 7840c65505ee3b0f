"""The recipe's raw data set is what nnU-Net and this project read."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

import nnunet_headneck
from medseg_kd.datasets import CaseDataset
from medseg_kd.errors import UserError


def test_a_nifti_folder_becomes_a_raw_data_set(tmp_path: Path) -> None:
    for split, case in (("train", "pt_1"), ("test", "pt_2")):
        for kind in ("images", "labels"):
            (tmp_path / split / kind).mkdir(parents=True)
            values = np.full((3, 8, 8), 40 if kind == "images" else 5, np.int16)
            sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / split / kind / f"{case}.nii.gz"))
    nnunet_headneck.main(["raw", "--data", str(tmp_path), "--work", str(tmp_path / "nnunet")])
    root = str(tmp_path / "nnunet/raw/Dataset501_HeadNeck")
    spec = dict(channels=dict(CT=dict(type="Window", low=-160, high=240)))
    for split, case in (("train", "pt_1"), ("test", "pt_2")):
        data = CaseDataset(root, split=split, spec=spec, format_options=dict(fold="all"))
        assert list(data.case_names) == [case]
        assert data.metainfo["classes"][5] == "mandible"
        assert int(data[0]["labels"].min()) == 5


def test_another_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no train/images"):
        nnunet_headneck.main(["raw", "--data", str(tmp_path), "--work", str(tmp_path / "nnunet")])


def test_voxels_that_differ_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask = np.zeros((2, 4, 4), np.uint8)
    mask[0, 0, :3] = 1
    for folder, name, values in (("a", "pt_1_0000", mask), ("b", "pt_1", mask.clip(max=0)), ("c", "pt_2", mask)):
        (tmp_path / folder).mkdir()
        sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / folder / f"{name}.nii.gz"))
    both = [str(tmp_path / "a"), str(tmp_path / "b")]
    nnunet_headneck.main(["differ", "--work", str(tmp_path), "--masks", *both])
    assert "pt_1: 3 of 32 voxels differ, 0 are labelled" in capsys.readouterr().out
    with pytest.raises(UserError, match="the same names"):
        nnunet_headneck.main(["differ", "--work", str(tmp_path), "--masks", both[0], str(tmp_path / "c")])
