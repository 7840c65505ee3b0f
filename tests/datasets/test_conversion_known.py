import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from medseg_kd.datasets import RGB8, CaseDataset, Percentiles, SliceDataset
from medseg_kd.datasets.conversion.known import KNOWN, prepare
from medseg_kd.errors import UserError
from tests.raw_downloads import KVASIR, heart, lesion, write_acdc, write_isic, write_kvasir

PATIENTS = (1, 19, 2)
NAMES = ("cju0train", KVASIR["pranet"][0], KVASIR["official"][0])


@pytest.fixture
def acdc(tmp_path: Path) -> Path:
    """One patient of each part of the published split."""
    return write_acdc(tmp_path / "raw", PATIENTS)


@pytest.fixture
def kvasir(tmp_path: Path) -> Path:
    return write_kvasir(tmp_path / "raw", NAMES)


def _lacking(name: str, raw: Path, split: str) -> list[str]:
    return KNOWN[name].find(raw, split).missing


def test_frames_of_acdc_are_those_of_their_phases(acdc: Path, tmp_path: Path):
    manifest = prepare("acdc", acdc.parent, tmp_path / "out", allow_missing=True)
    cases = {split: list(cases) for split, cases in manifest["splits"].items()}
    assert cases == {
        "train": ["patient001_ED", "patient001_ES"],
        "val": ["patient019_ED", "patient019_ES"],
        "test": ["patient002_ED", "patient002_ES"],
    }
    frame = 8 + 2 % 5  # as Info.cfg says
    values, label = heart(100 * 2 + frame)
    dataset = CaseDataset(str(tmp_path / "out"))
    assert dataset.spec.classes == ("background", "RV", "MYO", "LV")
    assert [(each.name, each.intensity) for each in dataset.spec.channels] == [("MR", Percentiles(0, 100))]
    item = dataset[1]
    np.testing.assert_array_equal(item["labels"], label)
    expected = (values - values.min()) / (values.max() - values.min())
    np.testing.assert_allclose(item["inputs"][:, 0], expected, atol=1e-6)
    assert item["meta"]["spacing"] == (10.0, 1.5, 1.5)
    assert SliceDataset(str(tmp_path / "out"))[0]["inputs"].shape == (1, 36, 32)
    assert CaseDataset(str(tmp_path / "out"), "val").case_names == cases["val"]
    assert dataset.metainfo["note"] == manifest["note"] == "made on a part of acdc: the download lacks 97 of its parts"


@pytest.mark.parametrize(("orientation", "slices"), [("RAI", "LPS"), ("SLP", "LPS"), ("ILA", "LPS")])
def test_the_stack_of_acdc_is_found_in_any_order_of_axes(tmp_path: Path, orientation: str, slices: str):
    write_acdc(tmp_path, PATIENTS, orientation)
    prepare("acdc", tmp_path, tmp_path / "out", allow_missing=True)
    with h5py.File(tmp_path / "out" / "test_vol_h5" / "patient002_ED.npy.h5") as file:
        np.testing.assert_array_equal(file["label"], heart(201)[1])
        assert (file.attrs["original_orientation"], file.attrs["orientation"]) == (orientation, slices)


def test_a_stack_that_does_not_point_to_the_head_stays_one(tmp_path: Path):
    """Its slices lie from right to left: turned to LPS they would be cut through."""
    raw = write_acdc(tmp_path, PATIENTS)
    import SimpleITK as sitk  # noqa: N813

    for path in raw.rglob("*_frame*.nii.gz"):
        image = sitk.ReadImage(str(path))
        image.SetDirection((0, 0, 1, 1, 0, 0, 0, 1, 0))  # columns to the back, rows to the head, slices to the left
        sitk.WriteImage(image, str(path))
    manifest = prepare("acdc", tmp_path, tmp_path / "out", allow_missing=True)
    assert manifest["spec"]["orientation"] == "PIL"
    item = CaseDataset(str(tmp_path / "out"))[0]
    np.testing.assert_array_equal(item["labels"], heart(201)[1][:, ::-1])
    assert item["meta"]["spacing"] == (10.0, 1.5, 1.5)

    path = raw / "training/patient001/patient001_frame01.nii.gz"
    for name in (path, path.with_name("patient001_frame01_gt.nii.gz")):
        image = sitk.ReadImage(str(name))
        image.SetDirection((1, 0, 0, 0, 1, 0, 0, 0, 1))
        sitk.WriteImage(image, str(name))
    with pytest.raises(UserError, match="patient001_frame01.* and of .*patient001_frame09.* lie along different axes"):
        prepare("acdc", tmp_path, tmp_path / "other", allow_missing=True)
    image.SetSpacing((1.5, 1.5, 1.5))
    for name in (path, path.with_name("patient001_frame01_gt.nii.gz")):
        sitk.WriteImage(image, str(name))
    with pytest.raises(UserError, match="patient001_frame01.* is no stack of slices"):
        prepare("acdc", tmp_path, tmp_path / "other", allow_missing=True)
    assert not (tmp_path / "other").exists()


def test_a_split_does_not_stay_beside_those_of_another_way(acdc: Path, tmp_path: Path):
    """The patients that it validates on would be trained on."""
    write_acdc(tmp_path / "raw", (101,))
    out = tmp_path / "out"
    prepare("acdc", acdc, out, allow_missing=True)
    with pytest.raises(UserError, match="out is split otherwise and holds val too: choose another folder"):
        prepare("acdc", acdc, out, "official", allow_missing=True, overwrite=True)
    with pytest.raises(UserError, match="already holds the split train and val and test: add --overwrite"):
        prepare("acdc", acdc, out, allow_missing=True)
    prepare("acdc", acdc, out, allow_missing=True, overwrite=True)
    manifest = prepare("acdc", acdc, tmp_path / "other", "official", allow_missing=True)
    assert [*manifest["splits"]["test"]] == ["patient101_ED", "patient101_ES"] and len(manifest["splits"]["train"]) == 6


def test_splits_of_acdc(tmp_path: Path):
    for number in range(1, 151):
        folder = tmp_path / ("training" if number <= 100 else "testing") / f"patient{number:03d}"
        folder.mkdir(parents=True)
        (folder / "Info.cfg").write_text("ED: 1\nES: 12\n")
        for end in ("01", "01_gt", "12", "12_gt"):
            (folder / f"{folder.name}_frame{end}.nii").touch()
    found = KNOWN["acdc"].find(tmp_path, "published")
    assert {split: len(pairs) for split, pairs in found.splits.items()} == {"train": 140, "val": 20, "test": 40}
    assert not found.missing
    patients = {split: {pair.case[7:10] for pair in pairs} for split, pairs in found.splits.items()}
    assert patients["val"] == {"019", "021", "029", "033", "041", "050", "061", "071", "076", "080"}
    assert patients["test"] >= {"002", "003", "095"} and not patients["train"] & (patients["val"] | patients["test"])
    found = KNOWN["acdc"].find(tmp_path, "official")
    assert {split: len(pairs) for split, pairs in found.splits.items()} == {"train": 200, "test": 100}
    assert {int(pair.case[7:10]) for pair in found.splits["test"]} == {*range(101, 151)}
    (tmp_path / "testing/patient101/patient101_frame12_gt.nii").unlink()
    assert _lacking("acdc", tmp_path, "official") == ["testing/patient101/patient101_frame12_gt.nii.gz"]


def test_downloads_that_are_none_or_incomplete(acdc: Path, tmp_path: Path):
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"lacks training/patient004, .* and 92 more.*--allow-missing"):
        prepare("acdc", acdc, out)
    with pytest.raises(UserError, match="holds no case of the test split of acdc, official"):
        prepare("acdc", acdc, out, "official", allow_missing=True)
    with pytest.raises(UserError, match="--split mine: expected published or official for acdc"):
        prepare("acdc", acdc, out, "mine")
    with pytest.raises(UserError, match="holds no training. Expected training/patient001/Info.cfg"):
        prepare("acdc", tmp_path, out)
    with pytest.raises(UserError, match="nowhere is no folder"):
        prepare("acdc", tmp_path / "nowhere", out)
    (acdc / "training/patient002/Info.cfg").write_text("ED: 1\nGroup: NOR\n")
    with pytest.raises(UserError, match="patient002/Info.cfg tells ED: 1, ES: nothing: expected two frames"):
        prepare("acdc", acdc, out, allow_missing=True)
    assert not out.exists()


def test_masks_of_kvasir_become_black_and_white(kvasir: Path, tmp_path: Path):
    out = tmp_path / "out"
    manifest = prepare("kvasir-seg", kvasir.parent, out, allow_missing=True)
    assert {split: list(cases) for split, cases in manifest["splits"].items()} == {
        "train": sorted([NAMES[0], NAMES[2]]),
        "test": [NAMES[1]],
    }
    photo, mask = lesion(1)
    written = np.asarray(Image.open(out / "ann_dir/test" / f"{NAMES[1]}.png"))
    np.testing.assert_array_equal(written, mask * 255)
    copied = out / "img_dir/test" / f"{NAMES[1]}.jpg"
    assert copied.read_bytes() == (kvasir / "images" / copied.name).read_bytes()
    dataset = CaseDataset(str(out))
    assert {each.intensity for each in dataset.spec.channels} == {RGB8()} and dataset.spec.num_channels == 3
    assert dataset.spec.classes == ("background", "polyp")
    np.testing.assert_array_equal(dataset[0]["labels"][0], mask)


def test_splits_of_kvasir(tmp_path: Path):
    names = sorted({*KVASIR["pranet"], *KVASIR["official"]})
    names += [f"other{number}" for number in range(1000 - len(names))]
    for name in names:
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{name}.jpg").touch()
    for split, counts in (("pranet", {"train": 900, "test": 100}), ("official", {"train": 880, "val": 120})):
        found = KNOWN["kvasir-seg"].find(tmp_path, split)
        assert {part: len(pairs) for part, pairs in found.splits.items()} == counts
        assert not found.missing
    (tmp_path / "images/other0.jpg").unlink()
    (tmp_path / "masks/other1.jpg").unlink()
    assert _lacking("kvasir-seg", tmp_path, "pranet") == ["masks/other1.jpg", "1 images to train on"]


def test_parts_of_isic(tmp_path: Path):
    raw = write_isic(tmp_path / "raw", {"Training": 3, "Validation": 1, "Test": 2})
    manifest = prepare("isic2018", raw, tmp_path / "out", allow_missing=True)
    assert {split: len(cases) for split, cases in manifest["splits"].items()} == {"train": 3, "val": 1, "test": 2}
    np.testing.assert_array_equal(CaseDataset(str(tmp_path / "out"), "val")[0]["labels"][0], lesion(1003)[1])
    (raw / "ISIC2018_Task1_Test_GroundTruth/ISIC_0000005_segmentation.png").unlink()
    lacking = _lacking("isic2018", raw, "official")
    assert lacking[0] == "2591 of 2594 images in ISIC2018_Task1-2_Training_Input"
    assert lacking[-1] == "ISIC2018_Task1_Test_GroundTruth/ISIC_0000005_segmentation.png"
    with pytest.raises(UserError, match="holds no ISIC2018_Task1-2_Training_Input"):
        prepare("isic2018", tmp_path, tmp_path / "other")


def test_images_that_do_not_fit(kvasir: Path, tmp_path: Path):
    out, mask = tmp_path / "out", kvasir / "masks" / f"{NAMES[0]}.jpg"
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(mask)
    with pytest.raises(UserError, match=r"cju0train.jpg has \(40, 48\) pixels and .*cju0train.jpg \(9, 9\)"):
        prepare("kvasir-seg", kvasir, out, allow_missing=True)
    Image.fromarray(np.full((40, 48), 128, np.uint8)).save(mask)
    with pytest.raises(UserError, match="cju0train.jpg is not black and white"):
        prepare("kvasir-seg", kvasir, out, allow_missing=True)
    mask.write_bytes(mask.read_bytes()[:100])
    with pytest.raises(UserError, match="cju0train.jpg"):
        prepare("kvasir-seg", kvasir, out, allow_missing=True)
    assert not out.exists()


def test_what_is_there_is_replaced_only_where_it_is_asked_for(kvasir: Path, tmp_path: Path):
    out = tmp_path / "out"
    prepare("kvasir-seg", kvasir, out, allow_missing=True)
    with pytest.raises(UserError, match="already holds prepared data: add --overwrite"):
        prepare("kvasir-seg", kvasir, out, "official", allow_missing=True)
    prepare("kvasir-seg", kvasir, out, "official", allow_missing=True, overwrite=True)
    assert sorted(path.name for path in (out / "img_dir").iterdir()) == ["train", "val"]
    assert {*json.loads((out / "manifest.json").read_text())["splits"]} == {"train", "val"}
    (out / "img_dir").rename(tmp_path / "elsewhere")
    (out / "img_dir").symlink_to(tmp_path / "elsewhere")
    before = sorted((tmp_path / "elsewhere").rglob("*"))
    prepare("kvasir-seg", kvasir, out, allow_missing=True, overwrite=True)
    assert sorted((tmp_path / "elsewhere").rglob("*")) == before
