import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medseg_kd.cli.prepare_synapse import main
from medseg_kd.errors import UserError

NUMBERS = (*range(1, 11), *range(21, 41))
TEST = ["0001", "0002", "0003", "0004", "0008", "0022", "0025", "0029", "0032", "0035", "0036", "0038"]


def _touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def _run(raw: Path, out: Path) -> None:
    main(["--raw", str(raw), "--out", str(out)])


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """The Training folder of the download, with tiny volumes whose labels hold all 13 organs."""
    folder = tmp_path / "RawData" / "Training"
    label = np.arange(28, dtype=np.uint8).reshape(1, 4, 7) % 14
    for number in NUMBERS:
        for kind, array in (("img", np.full((1, 4, 7), 75, np.int16)), ("label", label)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / kind / f"{kind}{number:04d}.nii.gz"))
    return folder


@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_split_of_transunet(training: Path, tmp_path: Path, level: int):
    _run([training, *training.parents][level], tmp_path / "out")
    lists = tmp_path / "out" / "lists" / "lists_Synapse"
    assert (lists / "test_vol.txt").read_text().split() == [f"case{number}" for number in TEST]
    train = [f"case{number:04d}" for number in NUMBERS if f"{number:04d}" not in TEST]
    assert (lists / "train.txt").read_text().split() == [f"{name}_slice000" for name in train]
    assert len(train) == 18
    with h5py.File(tmp_path / "out" / "test_vol_h5" / "case0038.npy.h5") as file:
        np.testing.assert_array_equal(file["image"][:], 0.5)
        np.testing.assert_array_equal(file["label"][:], [[[0, 7, 4, 3, 2, 0, 5], [8, 1, 0, 0, 6, 0, 0]] * 2])
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["window"] == [-125, 275]
    assert manifest["classes"][1] == "aorta"


def test_other_archives_beside_the_right_one_do_not_matter(training: Path, tmp_path: Path):
    _touch(tmp_path, "Reg-Training-Training/img/img0001-0002.nii.gz", "RawData/Testing/img/img0061.nii.gz")
    _run(tmp_path, tmp_path / "out")
    assert (tmp_path / "out" / "manifest.json").is_file()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["Testing/img/img0061.nii.gz"], "only the Testing volumes"),
        (["RawData/Testing/img/img0080.nii.gz"], "only the Testing volumes"),
        (["Training/img/0507688-Image.nii.gz", "Training/label/0507688-Mask.nii.gz"], "the Cervix archive"),
        (["train_npz/case0005_slice000.npz"], "preprocessed slices.*--data-root"),
        (["RawData.zip"], "RawData.zip, which is not unpacked"),
        (["img/img0001-0002.nii.gz"], "registered pairs"),
        (["img0001.nii.gz"], "without the folder of their labels"),
        (["holiday.jpg"], "holds no Training/img"),
        (["Training/img/img0001.nii.gz", "Training/label/label0001.nii.gz"], "lacks 58 of 60 files"),
    ],
)
def test_a_wrong_archive_is_recognised_and_the_right_one_named(tmp_path: Path, names: list[str], message: str):
    raw = _touch(tmp_path / "raw", *names)
    with pytest.raises(UserError, match=f"{message}.*Abdomen/RawData.zip" if "data-root" not in message else message):
        _run(raw, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_zip_file_and_a_missing_folder(tmp_path: Path):
    _touch(tmp_path, "RawData.zip")
    with pytest.raises(UserError, match="Unpack it"):
        _run(tmp_path / "RawData.zip", tmp_path / "out")
    with pytest.raises(UserError, match="does not exist.*Abdomen/RawData.zip"):
        _run(tmp_path / "nowhere", tmp_path / "out")
