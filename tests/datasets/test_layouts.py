"""What a data folder holds, where the names and the places of files matter."""

from pathlib import Path

import pytest
from synapse_folders import TEST, TRAIN, write_h5, write_images, write_npz

from medseg_kd.datasets.layouts import find_cases, find_slices, select_cases
from medseg_kd.errors import UserError


def test_both_layouts_find_the_same(transunet: Path, images: Path) -> None:
    """The fixtures share a folder: ``auto`` takes the TransUNet half of it."""
    expected = [(case, index) for case, count in TRAIN.items() for index in range(count)]
    for layout, suffix in (("auto", "npz"), ("transunet", "npz"), ("images", "png")):
        found = find_slices(transunet, "train", layout)
        assert [(item.case, item.index) for item in found] == expected
        assert {item.label.rpartition(".")[2] for item in found} == {suffix}
    assert list(find_cases(transunet, "test")) == list(find_cases(images, "test", "images")) == list(TEST)


@pytest.mark.parametrize(
    ("name", "case", "index"),
    [
        ("case0031_slice007", "case0031", 7),
        ("case0031_slice_7", "case0031", 7),
        ("patient_slice_2_slice12", "patient_slice_2", 12),
        ("Mr-X_2_slice1000", "Mr-X_2", 1000),
    ],
)
def test_names_that_tell_case_and_slice(tmp_path: Path, name: str, case: str, index: int) -> None:
    write_npz(tmp_path, "case0001", 0).rename(tmp_path / "train_npz" / f"{name}.npz")
    (item,) = find_slices(tmp_path, "train")
    assert (item.case, item.index) == (case, index)


def test_in_a_folder_a_case_the_folder_names_it(tmp_path: Path) -> None:
    write_images(tmp_path, "train", {"case0005": 1}, folders=True, mode="L", suffix=".png")
    for kind in ("img_dir", "ann_dir"):
        folder = tmp_path / kind / "train"
        (folder / "case0005" / "0.png").rename(folder / "case0005" / "ct_axial-012.png")
    (item,) = find_slices(tmp_path, "train")
    assert (item.case, item.index) == ("case0005", 12)


def test_a_flat_number_tells_no_case(tmp_path: Path) -> None:
    write_images(tmp_path, "train", {"case0005": 1}, folders=False, mode="L", suffix=".png")
    for kind in ("img_dir", "ann_dir"):
        folder = tmp_path / kind / "train"
        (folder / "case0005_slice000.png").rename(folder / "012.png")
    with pytest.raises(UserError, match=r"012\.png: the name does not tell case and slice; expected <case>_slice"):
        find_slices(tmp_path, "train")


def test_volumes_with_and_without_npy_in_the_name(tmp_path: Path) -> None:
    write_h5(tmp_path, "case0001", 1)
    path = write_h5(tmp_path, "case0002", 1)
    path.rename(path.with_name("case0002.h5"))
    assert {name: file.name for name, file in find_cases(tmp_path, "test").items()} == {
        "case0001": "case0001.npy.h5",
        "case0002": "case0002.h5",
    }


@pytest.mark.parametrize("place", ["train_npz/case0001.npy.h5", "train_npz/deeper/case0001_slice000.npz"])
def test_files_that_are_no_slices_are_no_split(tmp_path: Path, place: str) -> None:
    """Volumes among the slices, or slices a folder too deep."""
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).touch()
    with pytest.raises(UserError, match="holds no train split: no data file in train_npz/"):
        find_slices(tmp_path, "train")


def test_one_split_without_the_other(tmp_path: Path) -> None:
    write_npz(tmp_path, "case0005", 0)
    assert len(find_slices(tmp_path, "train")) == 1
    with pytest.raises(
        UserError, match=r"holds no test split: no data file in test_vol_h5/ or img_dir/val/.*data_root"
    ):
        find_cases(tmp_path, "test")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(UserError, match="data folder not found"):
        find_slices(tmp_path / "data", "train")


def test_two_lists_of_one_split(transunet: Path) -> None:
    for name in ("lists_Synapse", "mine"):
        (transunet / "lists" / name).mkdir(parents=True)
        (transunet / "lists" / name / "train.txt").write_text("case0005_slice000\n")
    with pytest.raises(UserError, match=r"several lists for one split.*mine.*keep one"):
        find_slices(transunet, "train")
    assert list(find_cases(transunet, "test")) == list(TEST)


def test_many_missing_files_are_counted(transunet: Path) -> None:
    names = transunet / "lists" / "lists_Synapse" / "train.txt"
    names.parent.mkdir(parents=True)
    names.write_text("\n".join(f"case0005_slice{index:03d}" for index in range(20)))
    with pytest.raises(UserError, match=r"case0005_slice007\.npz and 12 more missing"):
        find_slices(transunet, "train")


def test_select_cases() -> None:
    known = ["a", "b", "c", "a"]
    assert select_cases(known, None, (), "data") == {"a", "b", "c"}
    assert select_cases(known, ["a", "b"], ["b"], "data") == {"a"}
    with pytest.raises(UserError, match="data holds no case x, y; it holds a, b, c"):
        select_cases(known, ["y", "a"], ["x"], "data")
    with pytest.raises(UserError, match="data: no case is left"):
        select_cases(known, [], (), "data")


def test_a_string_is_one_case() -> None:
    """As ``--cfg-options val_dataloader.dataset.cases=case0005`` gives it."""
    assert select_cases(["case0005", "case0010"], "case0005", (), "data") == {"case0005"}
    assert select_cases(["case0005", "case0010"], None, "case0005", "data") == {"case0010"}
