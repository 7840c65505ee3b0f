"""Faults planted in data sets that are well otherwise; each must be found, and nothing in a healthy one."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from volume_files import write_volume

from medseg_kd.datasets import CaseDataset, SliceDataset
from medseg_kd.datasets.checks.findings import Finding
from medseg_kd.datasets.checks.survey import Survey, parts_of_folder, parts_of_loaders, survey
from medseg_kd.errors import UserError

FIRST = "train_npz/case0001_slice000.npz"


def check(root: Path) -> list[Finding]:
    return list(survey(parts_of_folder(root)).findings)


def change(path: Path, **arrays: Callable[[np.ndarray], np.ndarray]) -> None:
    with np.load(path) as file:
        content = dict(file)
    np.savez(path, **{name: arrays.get(name, np.asarray)(array) for name, array in content.items()})


def with_nan(image: np.ndarray) -> np.ndarray:
    image[0, 0] = np.nan
    return image


def copy_into_test(root: Path) -> None:
    """Case 1 of training as a test volume under another name."""
    slices = [np.load(path) for path in sorted((root / "train_npz").glob("case0001_*"))]
    with h5py.File(root / "test_vol_h5/case0099.npy.h5", "w") as file:
        for name in ("image", "label"):
            file[name] = np.stack([each[name] for each in slices])


def relabel(root: Path, function: Callable[[np.ndarray], np.ndarray]) -> None:
    for path in (root / "train_npz").iterdir():
        change(path, label=function)


PLANTED: dict[str, tuple[Callable[[Path], Any], str, bool, str]] = {
    "hounsfield": (lambda r: change(r / FIRST, image=lambda a: a * 400 - 125), "image", True, r"lie in \[-125, .*"),
    "bytes": (lambda r: change(r / FIRST, image=lambda a: a * 255), "image", True, r"lie in \[0, 2\d\d.*"),
    "divided twice": (lambda r: change(r / FIRST, image=lambda a: a / 255), "scale", False, "almost black"),
    "nan": (lambda r: change(r / FIRST, image=with_nan), "image", True, "1 of 4096 image values are NaN"),
    "text": (lambda r: change(r / FIRST, image=lambda a: a.astype(str)), "unreadable", True, "an array of <U"),
    "constant": (
        lambda r: change(r / FIRST, image=lambda a: a * 0),
        "constant",
        True,
        "all pixels are 0 but the label",
    ),
    "cut": (lambda r: (r / FIRST).write_bytes((r / FIRST).read_bytes()[:99]), "unreadable", True, "cannot be read"),
    "other shape": (lambda r: change(r / FIRST, label=lambda a: a[:9]), "label", True, r"a label of \(9, 64\)"),
    "interpolated": (lambda r: change(r / FIRST, label=lambda a: a / 3), "label", True, "no whole numbers"),
    "smaller slice": (
        lambda r: change(r / FIRST, image=lambda a: a[:32], label=lambda a: a[:32]),
        "uneven",
        True,
        r"\(64, 64\) \(3\), \(32, 64\) \(1\)",
    ),
    "hole": (lambda r: (r / FIRST.replace("000.npz", "001.npz")).unlink(), "holes", False, "no slice 1"),
    "copied under another name": (copy_into_test, "copies", True, r"4 image\(s\) of train: case0001 again in test"),
    "twice in a split": (
        lambda r: shutil.copy(r / FIRST, r / "train_npz/case0077_slice000.npz"),
        "copies",
        True,
        r"1 image\(s\) of train: case0001 again in train: case0077",
    ),
    "a slice twice in a case": (
        lambda r: shutil.copy(r / FIRST, r / FIRST.replace("000.npz", "004.npz")),
        "copies",
        False,
        r"1 image\(s\) of train: case0001 again in train: case0001",
    ),
    "the same name in both": (
        lambda r: shutil.copy(r / "test_vol_h5/case0004.npy.h5", r / "test_vol_h5/case0001.npy.h5"),
        "both splits",
        False,
        "case0001 in both",
    ),
    "black and white": (
        lambda r: relabel(r, lambda a: 255 * (a > 0)),
        "label values",
        True,
        r"values 255$",
    ),
    "organs of BTCV": (lambda r: relabel(r, lambda a: a + 5 * (a > 4)), "label values", True, "values 10, 11, 12, 13"),
    "a class that lacks": (lambda r: relabel(r, lambda a: a * (a != 6)), "classes", False, "no pixel of pancreas"),
    "background alone": (lambda r: relabel(r, lambda a: a * 0), "classes", True, "all labels are background"),
    "a case of background": (
        lambda r: [change(p, label=lambda a: a * 0) for p in (r / "train_npz").glob("case0001_*")],
        "classes",
        False,
        "only background in case0001",
    ),
}
REMEDIES = {
    "black and white": "write its number in place of 255",
    "organs of BTCV": "--label-map btcv",
    "bytes": "Clip the Hounsfield units",
    "cut": "copy or prepare it again",
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(phantom: Path, tmp_path: Path, name: str) -> None:
    plant, kind, fault, found = PLANTED[name]
    root = tmp_path / "data"
    shutil.copytree(phantom, root)
    shutil.rmtree(root / "lists")
    plant(root)
    (finding,) = [each for each in check(root) if each.check == kind]
    assert finding.fault is fault
    assert finding.where and finding.remedy
    assert REMEDIES.get(name, "") in finding.remedy
    assert re.search(found, finding.found)


def test_nothing_is_wrong_with_the_phantom(phantom: Path) -> None:
    result = survey(parts_of_folder(phantom))
    assert not result.findings
    assert {name: len(records) for name, records in result.records.items()} == {"train": 12, "test": 2}


def test_several_processes_find_the_same(transunet: Path) -> None:
    """The fixture's images are constant."""
    results = [survey(parts_of_folder(transunet), workers) for workers in (0, 1)]
    assert results[0].findings == results[1].findings != []
    assert results[0].records == results[1].records


def test_all_unreadable_files_are_told(phantom: Path, tmp_path: Path) -> None:
    shutil.copytree(phantom, root := tmp_path / "data")
    damaged = [root / "test_vol_h5/case0004.npy.h5", *sorted((root / "train_npz").iterdir())[:3]]
    for path in damaged:
        path.write_bytes(path.read_bytes()[:200])
    (root / "train_npz/case0003_slice000.npz").unlink()
    findings = check(root)
    assert {each.where for each in findings if each.check in ("unreadable", "files")} == {
        *map(str, damaged),
        str(root / "train_npz"),
    }


def write_photographs(
    root: Path,
    split: str,
    count: int,
    first: int = 0,
    top: int = 255,
    image: Callable[[np.ndarray], np.ndarray] = np.uint8,
) -> None:
    rng = np.random.default_rng(first)
    for number in range(first, first + count):
        for kind, pixels in (
            ("img_dir", image(rng.integers(0, 255, (8, 8, 3)))),
            ("ann_dir", (rng.integers(0, 2, (8, 8)) * top).astype(np.uint8)),
        ):
            (root / kind / split).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / kind / split / f"photo_{number}.png")


def write_nifti(root: Path, cases: int, image: str = "{split}/images/pt_{}.nii.gz") -> None:
    rng = np.random.default_rng(0)
    for number in range(cases):
        split = "train" if number < cases - 1 else "test"
        path = root / image.format(number, split=split)
        write_volume(path, rng.integers(-1000, 900, (4, 8, 8)).astype(np.int16))
        label = str(path).replace("images", "labels").replace("_0000", "")
        write_volume(Path(label), rng.integers(0, 3, (4, 8, 8)).astype(np.uint8))


def write_nnunet(root: Path, cases: int) -> None:
    write_nifti(root, cases, "imagesTr/pt_{}_0000.nii.gz")
    labels = {"background": 0, "liver": 1, "spleen": 2}
    content = dict(channel_names={"0": "CT"}, labels=labels, numTraining=cases, file_ending=".nii.gz")
    (root / "dataset.json").write_text(json.dumps(content))


HEALTHY = {
    "photographs": lambda root: [
        write_photographs(root, split, 3, first) for split, first in (("train", 0), ("val", 9))
    ],
    "16 bits": lambda root: write_photographs(root, "train", 3, image=lambda a: a[..., 0].astype(np.uint16) * 9),
    "nifti": lambda root: write_nifti(root, 3),
    "nnunet": lambda root: write_nnunet(root, 3),
    "nnunet with folds": lambda root: write_nnunet(root, 6),
}


@pytest.mark.parametrize("kind", HEALTHY)
def test_healthy_folders_that_tell_little(tmp_path: Path, kind: str) -> None:
    HEALTHY[kind](tmp_path)
    result = survey(parts_of_folder(tmp_path))
    assert not result.findings
    assert sum(map(len, result.records.values())) >= 3


def test_twins_and_lacking_labels_of_images(tmp_path: Path) -> None:
    write_photographs(tmp_path, "train", 4)
    images = tmp_path / "img_dir/train"
    shutil.copy(images / "photo_1.png", images / "photo_1.bmp")
    (tmp_path / "ann_dir/train/photo_2.png").unlink()
    (images / "photo_3.png").write_bytes(b"no image")
    found = {each.check: each.found for each in check(tmp_path) if each.fault and each.check == "unreadable"}
    assert "cannot be read" in found["unreadable"]
    files = [each.found for each in check(tmp_path) if each.check == "files"]
    assert len(files) == 2 and "are the same slice" in "".join(files) and "lacks the label" in "".join(files)


def test_values_of_labels_that_nothing_names(tmp_path: Path) -> None:
    write_photographs(tmp_path, "train", 3, top=128)
    (finding,) = check(tmp_path)
    assert not finding.fault and finding.found == "values 0, 128"
    assert finding.remedy.startswith("Write 128 as 1")


def test_what_is_wrong_with_cases_of_nnunet(tmp_path: Path) -> None:
    write_nnunet(tmp_path, 6)
    (tmp_path / "labelsTr/pt_1.nii.gz").unlink()
    write_volume(tmp_path / "labelsTr/pt_2.nii.gz", np.full((4, 8, 8), 7, np.uint8))
    label, values = check(tmp_path)
    assert label.found.startswith("case pt_1 has no label") and label.remedy == "Add it"
    assert values.where == str(tmp_path / "labelsTr/pt_2.nii.gz") and values.found == "values 7"
    assert values.expected == "0 to 2 (background, liver, spleen)"


def test_grids_that_differ(tmp_path: Path) -> None:
    write_nifti(tmp_path, 4)
    for number in (0, 2):
        write_volume(tmp_path / f"train/labels/pt_{number}.nii.gz", np.zeros((4, 8, 8), np.uint8), (9.0, 9.0, 9.0))
    result = survey(parts_of_folder(tmp_path))
    assert [Path(each.where).name for each in result.findings] == ["pt_0.nii.gz", "pt_2.nii.gz"]
    assert all("differ in spacing" in each.found for each in result.findings)
    assert [record.case for record in result.records["train"]] == ["pt_1"]


def test_volumes_that_lie_on_their_side(phantom: Path, tmp_path: Path) -> None:
    shutil.copytree(phantom, root := tmp_path / "data")
    with h5py.File(root / "test_vol_h5/case0009.npy.h5", "w") as file:
        file["image"] = file["label"] = np.zeros((64, 64, 4), np.float32)
    shutil.rmtree(root / "lists")
    assert ["dict(axes='HWS')" in each.remedy for each in check(root) if each.check == "files"] == [True]


def of_config(root: Path, **validated: Any) -> Survey:
    spec = dict(channels=dict(CT=dict(type="Window", low=-160, high=240)), classes=("background", "liver", "spleen"))
    datasets = {
        "train_dataloader": dict(type=SliceDataset, data_root=str(root), spec=spec),
        "val_dataloader": dict(type=CaseDataset, data_root=str(root), spec=spec, **validated),
    }
    return survey(parts_of_loaders(datasets))


def test_what_a_config_says_counts(tmp_path: Path) -> None:
    write_nifti(tmp_path, 3)
    result = of_config(tmp_path)
    assert not result.findings and list(result.records) == ["train", "val (test)"]
    result = of_config(tmp_path, split="train")
    assert [(each.check, each.fault) for each in result.findings] == [("both splits", False)]
    write_volume(tmp_path / "train/images/pt_0.nii.gz", np.arange(256, dtype=np.uint8).reshape(4, 8, 8))
    assert [(each.check, each.fault) for each in of_config(tmp_path).findings] == [("scale", False)]
    assert [each.found for each in of_config(tmp_path, cases=["pt_9"]).findings if each.fault] == [
        "holds no case pt_9; it holds pt_2"
    ]


def test_a_folder_without_data(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no train split"):
        parts_of_folder(tmp_path)
