import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image
from volume_files import ct_and_label, turned_pair, write_volume

from medseg_kd.datasets import RGB8, CaseDataset, Percentiles, SliceDataset, Stored, Window, ZScore
from medseg_kd.datasets.formats import NNUNet
from medseg_kd.datasets.formats.nnunet import five_folds
from medseg_kd.errors import UserError

MR = {"channel_names": {"0": "T2", "1": "ADC"}, "labels": {"background": 0, "PZ": 1, "TZ": 2}, "file_ending": ".nii.gz"}
WINDOW = {"channels": {"CT": {"type": "Window", "low": -160, "high": 240}}}


def _describe(root: Path, **changed: Any) -> Path:
    """Writes ``dataset.json``; a value of None leaves the key out."""
    root.mkdir(parents=True, exist_ok=True)
    content = {key: value for key, value in {**MR, **changed}.items() if value is not None}
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def _add(root: Path, names: str, part: str = "Tr", channels: int = 2, labels: bool = True, ending=".nii.gz") -> None:
    """Cases with a letter each, their channels different."""
    for name in names:
        for channel in range(channels):
            image, label = ct_and_label(10 * ord(name) + channel, 3)
            write_volume(root / f"images{part}" / f"{name}_{channel:04d}{ending}", image, orientation="RAS")
        if labels:
            write_volume(root / f"labels{part}" / f"{name}{ending}", label, orientation="RAS")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six training cases of two channels."""
    _add(_describe(tmp_path / "Dataset001_Prostate", numTraining=6), "fabcde")
    return tmp_path / "Dataset001_Prostate"


def _cases(root: Path, split: str, **options: Any) -> list[str]:
    return CaseDataset(str(root), split, format_options=options).case_names


def test_the_folder_tells_all_of_its_images(root: Path):
    dataset = SliceDataset(str(root))
    assert isinstance(dataset.format, NNUNet)
    assert [(each.name, each.intensity) for each in dataset.spec.channels] == [("T2", ZScore()), ("ADC", ZScore())]
    assert dataset.spec.classes == ("background", "PZ", "TZ")
    assert dataset.spec.orientation == "LPS"
    assert len(dataset) == 3 * len(dataset.case_names) == 12
    item = dataset[4]
    assert (item["meta"]["case_name"], item["meta"]["slice_index"]) == ("b", 1)
    for channel in range(2):
        values, label = ct_and_label(10 * ord("b") + channel, 3)
        expected = (values - values.mean()) / values.std()
        np.testing.assert_allclose(item["inputs"][channel], expected[1], atol=1e-5)
    np.testing.assert_array_equal(item["labels"], label[1])


def test_folds_are_those_of_nnunet():
    """What scikit-learn 1.9.1 gives for KFold(5, shuffle=True, random_state=12345)."""
    folds = five_folds("abcdefghijklm")
    assert ["".join(fold["val"]) for fold in folds] == ["ahj", "dgk", "ilm", "be", "cf"]
    assert ["".join(fold["train"]) for fold in folds][0] == "bcdefgiklm"
    with pytest.raises(UserError, match="4 cases cannot be split.*fold='all'"):
        five_folds("abcd")


def test_splits_without_a_file_and_with_one(root: Path):
    assert _cases(root, "train") == ["a", "b", "c", "e"]
    assert _cases(root, "val") == _cases(root, "test") == ["d", "f"]
    assert _cases(root, "val", fold=4) == ["c"]
    assert _cases(root, "train", fold="all") == _cases(root, "val", fold="all") == [*"abcdef"]
    with pytest.raises(UserError, match="no case is in the test split of fold all. To predict .*unlabelled=True"):
        _cases(root, "test", fold="all")
    (root / "splits_final.json").write_text(json.dumps([{"train": ["b", "a"], "val": ["f"]}]))
    assert (_cases(root, "train"), _cases(root, "val"), _cases(root, "test")) == (["a", "b"], ["f"], ["f"])
    with pytest.raises(UserError, match="fold is 1, but the folds are 0"):
        _cases(root, "train", fold=1)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ([{"train": ["a", "x"], "val": ["b"]}], "names 'x', which"),
        ([{"train": ["a", "b"], "val": ["b"]}], "has b in train and in val"),
        ([{"train": ["a"]}], "val is None: expected a list"),
        ({"train": ["a"], "val": ["b"]}, "expected a list"),
    ],
)
def test_split_files_that_make_no_sense(root: Path, splits: Any, message: str):
    (root / "splits_final.json").write_text(json.dumps(splits))
    with pytest.raises(UserError, match=f"splits_final.json.*{message}"):
        _cases(root, "train")


@pytest.mark.parametrize("fold", [-1, "0", 1.0, None])
def test_folds_that_are_none(root: Path, fold: Any):
    with pytest.raises(UserError, match=r"format_options.fold is .* expected 0, 1 and so on, or 'all'"):
        _cases(root, "train", fold=fold)


def test_images_to_test_with_and_without_labels(root: Path):
    _add(root, "yz", "Ts", labels=False)
    assert _cases(root, "test") == ["d", "f"]
    dataset = CaseDataset(str(root), format_options={"unlabelled": True})
    assert dataset.case_names == ["y", "z"]
    assert dataset[1]["labels"] is None
    assert dataset[1]["inputs"].shape == (3, 2, 5, 4)
    _add(root, "y", "Ts")
    with pytest.raises(UserError, match=r"case z has no label .*labelsTs/z.nii.gz.*unlabelled=True"):
        _cases(root, "test")
    assert [item["labels"] is None for item in CaseDataset(str(root), format_options={"unlabelled": True})] == [0, 1]
    _add(root, "z", "Ts")
    assert _cases(root, "test") == ["y", "z"]


def test_a_case_leads_back_to_the_grid_of_its_file(root: Path):
    geometry = CaseDataset(str(root))[0]["meta"]["geometry"]
    original = sitk.ReadImage(str(root / "imagesTr" / "d_0000.nii.gz"))
    turned = sitk.DICOMOrient(original, "LPS")
    assert geometry == {"origin": turned.GetOrigin(), "direction": turned.GetDirection(), "orientation": "RAS"}


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("noNorm", Stored()),
        ("zscore", ZScore()),
        ("FLAIR", ZScore()),
        ("rescale_to_0_1", Percentiles(0, 100)),
        ("rgb_to_0_1", RGB8()),
        ("R", RGB8()),
    ],
)
def test_the_rule_of_a_channel_is_its_names(tmp_path: Path, name: str, rule: Any):
    _add(_describe(tmp_path, channel_names={"0": name}), "abcde", channels=1)
    assert SliceDataset(str(tmp_path)).spec.channels[0].intensity == rule


def test_the_config_has_the_last_word_on_rules(root: Path):
    spec = {"channels": {"T2": {"type": "ZScore", "nonzero": True}, "ADC": "Percentiles"}}
    assert [each.intensity for each in SliceDataset(str(root), spec=spec).spec.channels] == [
        ZScore(nonzero=True),
        Percentiles(),
    ]
    with pytest.raises(UserError, match="differ in channels"):
        SliceDataset(str(root), spec={"channels": {"ADC": "ZScore", "T2": "ZScore"}})


def test_ct_needs_a_window(tmp_path: Path):
    _add(_describe(tmp_path, channel_names={"0": "CT", "1": "PET"}), "abcde")
    with pytest.raises(UserError, match=r"'CT': dict\(type='Window', low=-160, high=240\), 'PET': 'ZScore'"):
        SliceDataset(str(tmp_path))
    with pytest.raises(UserError, match="give each channel a name of its own"):
        SliceDataset(str(_describe(tmp_path, channel_names={"0": "CT", "1": "CT"})))
    _describe(tmp_path, channel_names={"0": "CT", "1": "PET"})
    spec = {"channels": {**WINDOW["channels"], "PET": "Stored"}}
    assert [each.intensity for each in SliceDataset(str(tmp_path), spec=spec).spec.channels] == [
        Window(-160, 240),
        ZScore(),
    ]


def test_the_older_form(tmp_path: Path):
    changed = {"channel_names": None, "file_ending": None, "modality": {"0": "MRI"}}
    _add(_describe(tmp_path, **changed, labels={"0": "background", "2": "TZ", "1": "PZ"}), "abcde", channels=1)
    spec = SliceDataset(str(tmp_path)).spec
    assert (spec.classes, spec.channels[0].name) == (("background", "PZ", "TZ"), "MRI")


def test_regions_and_ignored_voxels(tmp_path: Path):
    """The classes are the values of the label; what is scored is the regions."""
    labels = {"background": 0, "whole tumour": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}
    _add(_describe(tmp_path, labels=labels, regions_class_order=[1, 2, 3]), "abcde")
    label = ct_and_label(0, 5)[1]
    write_volume(tmp_path / "labelsTr" / "a.nii.gz", label, orientation="RAS")
    dataset = CaseDataset(str(tmp_path), "train", format_options={"fold": "all"})
    assert dataset.spec.classes == ("background", "label 1", "label 2", "enhancing")
    assert dataset.spec.regions == {"whole tumour": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}
    assert [value for *_, value in dataset.spec.decoded] == [1, 2, 3]
    assert dataset.spec.ignore_label == 4
    np.testing.assert_array_equal(dataset[0]["labels"], np.where(label == 4, 255, label))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": {"background": 0, "a": 1, "b": 3}}, "follow each other without a gap"),
        ({"labels": {"a": 0, "b": 1}}, "expected background 0"),
        ({"labels": {"background": 0, "a": "1"}}, "whole numbers"),
        ({"labels": {"background": 0, "a": [[1]]}}, "whole numbers"),
        ({"labels": {"background": 0, "a": 1, "b": 1}}, "a value of its own"),
        ({"labels": {"background": 0, "ignore": 1, "a": 2}}, "ignore is 1, expected the highest"),
        ({"labels": {"background": 0, "a": [1, 2], "b": 2}}, "regions_class_order is expected to have 2 values"),
        (
            {"labels": {"background": 0, "a": [1, 2], "b": 2}, "regions_class_order": [1, 1]},
            r"dataset.json: regions_class_order is \[\('a', 1\), \('b', 1\)\]: expected",
        ),
        ({"labels": None}, "labels is None"),
        ({"channel_names": None}, "channels is None"),
        ({"file_ending": ".jpg"}, "file_ending is '.jpg', expected one of .nii.gz"),
        ({"file_ending": None}, "file_ending is None"),
        ({"numTraining": 7}, "numTraining is 7, but 6 cases"),
        ({"channel_names": {"0": "T2"}}, "case a has the channels 0000, 0001, but dataset.json names 1: T2"),
        ({"channel_names": {"0": "T2", "2": "ADC"}}, "expected the numbers 0, 1, 2"),
    ],
)
def test_descriptions_that_cannot_be(root: Path, changed: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        SliceDataset(str(_describe(root, **changed)))


def test_a_description_with_a_mark_of_its_encoding(root: Path):
    path = root / "dataset.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert _cases(root, "train", fold="all")


def test_files_that_do_not_fit(root: Path):
    write_volume(root / "imagesTr" / "a_0001.nii.gz", ct_and_label()[0], spacing=(1.5, 2.0, 3.1), orientation="RAS")
    write_volume(root / "labelsTr" / "b.nii.gz", ct_and_label()[1], orientation="LPS")
    with pytest.raises(UserError, match=r"(?s)a_0000.* and a_0001.* differ in spacing.*b_0000.* differ in direction"):
        SliceDataset(str(root))
    (root / "labelsTr" / "c.nii.gz").unlink()
    with pytest.raises(UserError, match=r"case c has no label [^,]*c.nii.gz. Add it$"):
        SliceDataset(str(root))
    (root / "imagesTr" / "c_0001.nii.gz").rename(root / "imagesTr" / "c.nii.gz")
    with pytest.raises(UserError, match=r"imagesTr/c.nii.gz: expected <case>_<channel>.nii.gz, as in c_0000.nii.gz"):
        SliceDataset(str(root))
    (root / "dataset.json").write_text("{")
    with pytest.raises(UserError, match=r"dataset.json is no JSON"):
        SliceDataset(str(root))


def test_files_that_the_description_names(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CASES", "mine")
    (root / "imagesTr").rename(root / "mine")
    mapping = {
        f"case {name}": {
            "images": [f"$CASES/{name}_0000.nii.gz", f"mine/{name}_0001.nii.gz"],
            "label": f"labelsTr/{name}.nii.gz",
        }
        for name in "abcdef"
    }
    _describe(root, dataset=mapping)
    assert _cases(root, "val") == ["case d", "case f"]
    (root / "mine" / "a_0000.nii.gz").rename(tmp_path / "a.nii.gz")
    mapping["case a"]["images"][0] = "../a.nii.gz"
    with pytest.raises(UserError, match=r"case a names ../a.nii.gz, which lies outside .*outside=True"):
        _cases(_describe(root, dataset=mapping), "val")
    assert _cases(root, "val", outside=True) == ["case d", "case f"]
    (tmp_path / "a.nii.gz").unlink()
    with pytest.raises(UserError, match="there is no file"):
        _cases(root, "val", outside=True)
    with pytest.raises(UserError, match="expected a name without folders"):
        _cases(_describe(root, dataset={"../x": mapping["case b"]}), "val")


def test_channels_and_label_at_45_degrees_are_turned_alike(tmp_path: Path):
    """Each file is turned as the first channel is."""
    turned_pair(tmp_path)
    for folder, source, target in (
        ("imagesTs", "images", "a_0000"),
        ("imagesTs", "labels", "a_0001"),
        ("labelsTs", "labels", "a"),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"{target}.nii.gz").write_bytes((tmp_path / source / "pt_1.nii.gz").read_bytes())
    _describe(tmp_path)
    item = CaseDataset(str(tmp_path))[0]
    for channel in range(2):
        np.testing.assert_array_equal(item["inputs"][:, channel] > 0, item["labels"] > 0)


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_other_kinds_of_volumes(tmp_path: Path, ending: str):
    _add(_describe(tmp_path, file_ending=ending), "abcde", ending=ending)
    item = SliceDataset(str(tmp_path), format_options={"fold": "all"})[0]
    np.testing.assert_array_equal(item["labels"], ct_and_label(10 * ord("a") + 1, 3)[1][0])


@pytest.mark.parametrize("files", ["one", "three"])
def test_natural_images(tmp_path: Path, files: str):
    """Red, green and blue in one file, or in a file each."""
    _describe(tmp_path, channel_names={"0": "R", "1": "G", "2": "B"}, file_ending=".png")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 8, 3)).astype(np.uint8)
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
    for name, image in zip("abcde", pixels, strict=True):
        for channel, array in enumerate([image] if files == "one" else np.moveaxis(image, -1, 0)):
            Image.fromarray(np.ascontiguousarray(array)).save(tmp_path / "imagesTr" / f"{name}_{channel:04d}.png")
        Image.fromarray((image[..., 0] > 127).astype(np.uint8)).save(tmp_path / "labelsTr" / f"{name}.png")
    dataset = SliceDataset(str(tmp_path), format_options={"fold": "all"})
    assert (len(dataset), dataset.spec.orientation) == (5, None)
    assert dataset[2]["inputs"].shape == (3, 6, 8)
    np.testing.assert_allclose(dataset[2]["inputs"], np.moveaxis(pixels[2], -1, 0) / 255, atol=1e-6)
    np.testing.assert_array_equal(dataset[2]["labels"], pixels[2, ..., 0] > 127)
    assert CaseDataset(str(tmp_path), "val")[0]["inputs"].shape == (1, 3, 6, 8)


def test_pictures_of_many_pages_are_refused(tmp_path: Path):
    """One page alone would be read."""
    _describe(tmp_path, channel_names={"0": "grey"}, file_ending=".tif")
    pages = [Image.fromarray(page) for page in ct_and_label(0, 2)[1]]
    for folder, name in (("imagesTr", "a_0000"), ("labelsTr", "a")):
        (tmp_path / folder).mkdir()
        pages[0].save(tmp_path / folder / f"{name}.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(UserError, match="a_0000.tif holds several pages"):
        SliceDataset(str(tmp_path), format_options={"fold": "all"})[0]


def test_auto_takes_nnunet_before_nifti(root: Path):
    for folder, number in (("images", 0), ("labels", 1)):
        write_volume(root / folder / "x.nii.gz", ct_and_label()[number])
    assert isinstance(SliceDataset(str(root)).format, NNUNet)
    spec = {**WINDOW, "classes": ("background", "a", "b", "c")}
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).rename(root / f"{folder} of nnU-Net")
    assert SliceDataset(str(root), spec=spec).case_names == ["x"]
