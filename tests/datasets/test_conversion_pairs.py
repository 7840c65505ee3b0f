from pathlib import Path

import pytest

from medseg_kd.datasets.conversion import find_pairs
from medseg_kd.datasets.pairs import find_images
from medseg_kd.errors import UserError


def _folders(root: Path, images: list[str], labels: list[str]) -> tuple[Path, Path]:
    for folder, names in ((root / "i", images), (root / "l", labels)):
        folder.mkdir()
        for name in names:
            (folder / name).touch()
    return root / "i", root / "l"


@pytest.mark.parametrize(
    ("image", "label", "case"),
    [
        ("pt_1.nii.gz", "pt_1.nii.gz", "pt_1"),
        ("img0001.nii.gz", "label0001.nii.gz", "case0001"),
        ("liver_003_0000.nii.gz", "liver_003.nii.gz", "liver_003"),
        ("volume-4.nii", "segmentation-4.nii.gz", "case4"),
        ("case7_image.nii.gz", "case7_seg.nii.gz", "case7"),
        ("imaging.nii.gz", "imaging.nii.gz", "imaging"),
        ("labrador.nii.gz", "labrador.nii.gz", "labrador"),
        ("Mr. X (2).nii.gz", "Mr. X (2).nii.gz", "Mr-X-2"),
        ("ct.nii.gz", "seg.nii.gz", "i"),
    ],
)
def test_names_that_pair(tmp_path: Path, image: str, label: str, case: str):
    images, labels = _folders(tmp_path, [image], [label])
    (pair,) = find_pairs(images, labels)
    assert (pair.case, pair.image.name, pair.label.name) == (case, image, label)


def test_natural_order(tmp_path: Path):
    names = [f"pt_{number}.nii.gz" for number in (10, 2, 1)]
    assert [pair.case for pair in find_pairs(*_folders(tmp_path, names, names))] == ["pt_1", "pt_2", "pt_10"]


@pytest.mark.parametrize(("image", "label"), [("pt_", "pt_"), ("img_", "label_"), ("scan", "scan"), ("ct_", "ct_")])
def test_cases_that_are_numbered_from_zero(tmp_path: Path, image: str, label: str):
    """0000 is the number of a case where the label has it, and not of a channel."""
    images, labels = _folders(
        tmp_path, *([f"{name}{number:04d}.nii.gz" for number in range(3)] for name in (image, label))
    )
    assert [(pair.image.name[-11:], pair.label.name[-11:]) for pair in find_pairs(images, labels)] == [
        (f"{number:04d}.nii.gz", f"{number:04d}.nii.gz") for number in range(3)
    ]
    cases = [pair.case for pair in find_pairs(images, labels)]
    assert list(find_images(images)) == cases
    assert find_pairs(images / f"{image}0000.nii.gz", labels / f"{label}0000.nii.gz")[0].case == cases[0]


def test_the_number_of_a_channel_is_no_case(tmp_path: Path):
    images, _ = _folders(tmp_path, ["liver_1_0000.nii.gz", "liver_2_0000.nii.gz"], [])
    assert list(find_images(images)) == ["liver_1", "liver_2"]


def test_two_files(tmp_path: Path):
    images, labels = _folders(tmp_path, ["image.nii.gz"], ["label_totalsegmentator.nii.gz"])
    (pair,) = find_pairs(images / "image.nii.gz", labels / "label_totalsegmentator.nii.gz")
    assert pair.case == "i"


def test_one_folder_with_one_image_and_one_label(tmp_path: Path):
    folder = tmp_path / "abdomen"
    folder.mkdir()
    for name in ("image.nii.gz", "label_totalsegmentator.nii.gz"):
        (folder / name).touch()
    (pair,) = find_pairs(folder, folder)
    assert (pair.case, pair.image.name, pair.label.name) == ("abdomen", "image.nii.gz", "label_totalsegmentator.nii.gz")


def test_one_folder_with_several(tmp_path: Path):
    for name in ("image1.nii.gz", "image2.nii.gz", "label1.nii.gz", "label2.nii.gz"):
        (tmp_path / name).touch()
    pairs = find_pairs(tmp_path, tmp_path)
    assert [(pair.image.name, pair.label.name) for pair in pairs] == [
        ("image1.nii.gz", "label1.nii.gz"),
        ("image2.nii.gz", "label2.nii.gz"),
    ]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (["a.nii.gz", "b.nii.gz"], ["a.nii.gz"], "no label in .*b.nii.gz"),
        (["a.nii.gz"], ["a.nii.gz", "c.nii.gz"], "no image in .*c.nii.gz"),
        (["a.txt"], ["a.nii.gz"], "holds no .nii"),
        (["a.nii", "a.nii.gz"], ["a.nii"], "both named"),
        (["a b.nii", "a-b.nii"], ["a b.nii", "a-b.nii"], "same case name"),
    ],
)
def test_names_that_do_not_pair(tmp_path: Path, images: list[str], labels: list[str], message: str):
    with pytest.raises(UserError, match=message):
        find_pairs(*_folders(tmp_path, images, labels))


def test_a_folder_of_folders_is_pointed_at(tmp_path: Path):
    images, labels = _folders(tmp_path, [], [])
    (images / "train").mkdir()
    with pytest.raises(UserError, match="folders train"):
        find_pairs(images, labels)


def test_paths_that_cannot_be(tmp_path: Path):
    images, labels = _folders(tmp_path, ["a.nii"], ["a.nii", "a.dcm"])
    with pytest.raises(UserError, match="does not exist"):
        find_pairs(tmp_path / "nowhere", labels)
    with pytest.raises(UserError, match="two files or two folders"):
        find_pairs(images / "a.nii", labels)
    with pytest.raises(UserError, match="not a NIfTI file"):
        find_pairs(images / "a.nii", labels / "a.dcm")
