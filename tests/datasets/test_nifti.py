import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from volume_files import ct_and_label, shear, turned_pair, write_volume

from medseg_kd.datasets import CaseDataset, SliceDataset
from medseg_kd.datasets.conversion import Recipe, convert, find_pairs, load_label_map
from medseg_kd.datasets.formats import NIfTI
from medseg_kd.datasets.intensities import Window
from medseg_kd.datasets.spec import Channel
from medseg_kd.datasets.volumes import read_volume
from medseg_kd.errors import UserError

SPEC = {
    "channels": {"CT": {"type": "Window", "low": -100, "high": 300}},
    "classes": ("background", "brainstem", "cord", "mandible"),
}


def _write(root: Path, images: str, *names: str, labels: str | None = None, orientation: str = "LPS") -> Path:
    """Volumes of these names in a folder of images and one of labels."""
    for name in names:
        image, label = ct_and_label(sum(map(ord, name)))
        write_volume(root / images / f"{name}.nii.gz", image, orientation=orientation)
        if labels:
            write_volume(root / labels / f"{name}.nii.gz", label, orientation=orientation)
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Patients in files of various orientations, their numbers with and without a second digit."""
    for name, orientation in (("pt_2", "RAS"), ("pt_10", "LPS"), ("pt_1", "PIR"), ("pt_33", "SAL")):
        _write(tmp_path, "images", name, labels="labels", orientation=orientation)
    return tmp_path


@pytest.mark.parametrize(("dataset", "split"), [(SliceDataset, "train"), (SliceDataset, "test"), (CaseDataset, "test")])
def test_the_items_are_those_of_the_converted_folder(folder: Path, tmp_path: Path, dataset: type, split: str):
    """Bit for bit, in the same order, with the same names."""
    recipe = Recipe(Channel("CT", Window(-100, 300)), load_label_map("none"), SPEC["classes"])
    convert({split: find_pairs(folder / "images", folder / "labels")}, tmp_path / "out", recipe, "test")
    own, converted = dataset(str(folder), split, spec=SPEC), dataset(str(tmp_path / "out"), split)
    assert own.spec == converted.spec
    assert len(own) == len(converted) == (4 if dataset is CaseDataset else 12)
    for item, expected in zip(own, converted, strict=True):
        assert item["meta"] == expected["meta"]
        assert item["inputs"].numpy().tobytes() == expected["inputs"].numpy().tobytes()
        assert torch.equal(item["labels"], expected["labels"])


def test_a_case_leads_back_to_the_grid_of_its_file(folder: Path):
    for item in CaseDataset(str(folder), spec=SPEC):
        meta = item["meta"]
        back = sitk.GetImageFromArray(item["labels"].numpy())
        back.SetSpacing(meta["spacing"][::-1])
        back.SetOrigin(meta["geometry"]["origin"])
        back.SetDirection(meta["geometry"]["direction"])
        back = sitk.DICOMOrient(back, meta["geometry"]["orientation"])
        original = sitk.ReadImage(str(folder / "labels" / f"{meta['case_name']}.nii.gz"))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(original))
        np.testing.assert_allclose(back.GetOrigin(), original.GetOrigin(), atol=1e-4)
        np.testing.assert_allclose(back.GetDirection(), original.GetDirection(), atol=1e-6)


@pytest.mark.parametrize(
    ("images", "labels", "splits"),
    [
        ("train/images", "train/labels", ["train"]),
        ("images/val", "labels/val", ["val"]),
        ("imagesTr", "labelsTr", ["train"]),
        ("imagesTs", "labelsTs", ["test"]),
        ("images", "labels", ["train", "val", "test"]),
    ],
)
def test_places_of_a_split(tmp_path: Path, images: str, labels: str, splits: list[str]):
    _write(tmp_path, images, "a", labels=labels)
    for split in ("train", "val", "test"):
        if split in splits:
            (case,) = CaseDataset(str(tmp_path), split, spec=SPEC).format.find(split)
            assert (case.name, case.size, case.labelled) == ("a", 3, True)
        else:
            with pytest.raises(UserError, match=f"holds no {split} split"):
                CaseDataset(str(tmp_path), split, spec=SPEC)
    with pytest.raises(UserError, match="holds no test split"):
        NIfTI(tmp_path / "nowhere").find("test")


def test_a_test_split_of_its_own_wins(tmp_path: Path):
    _write(tmp_path, "images", "a", "b", labels="labels")
    _write(tmp_path, "test/images", "c", labels="test/labels")
    assert CaseDataset(str(tmp_path), "test", spec=SPEC).case_names == ["c"]
    assert SliceDataset(str(tmp_path), "train", spec=SPEC, exclude_cases=["a"]).case_names == ["b"]


def test_cases_without_labels_can_be_read_and_not_trained_on(tmp_path: Path):
    _write(tmp_path, "test/images", "b_0000", "a_0000")
    dataset = CaseDataset(str(tmp_path), spec=SPEC)
    assert dataset.case_names == ["a", "b"]
    assert dataset[0]["labels"] is None
    assert dataset[0]["inputs"].shape == (3, 1, 5, 4)
    with pytest.raises(UserError, match="case a has no label"):
        SliceDataset(str(tmp_path), "test", spec=SPEC)
    _write(tmp_path, "other", "b", labels="test/labels")
    with pytest.raises(UserError, match="no label in .* for a_0000"):
        CaseDataset(str(tmp_path), spec=SPEC)


def test_channels_and_classes_have_to_be_told(folder: Path):
    with pytest.raises(UserError, match="does not tell the channels.*Window"):
        SliceDataset(str(folder), spec={"classes": SPEC["classes"]})
    with pytest.raises(UserError, match="does not tell the classes"):
        SliceDataset(str(folder), spec={"channels": SPEC["channels"]})
    with pytest.raises(UserError, match="differ in orientation"):
        SliceDataset(str(folder), spec={**SPEC, "orientation": "RAS"})


def test_all_pairs_that_do_not_fit_are_told_at_the_start(folder: Path):
    write_volume(folder / "labels" / "pt_2.nii.gz", np.zeros((3, 5, 5), np.uint8))
    write_volume(folder / "labels" / "pt_10.nii.gz", ct_and_label()[1], spacing=(1.5, 2.0, 3.1))
    (folder / "images" / "pt_33.nii.gz").unlink()
    shear(write_volume(folder / "images" / "pt_33.nii", ct_and_label()[0]))
    message = r"(?s)pt_10.nii.gz differ in spacing.*pt_2.nii.gz differ in size.*pt_33.nii: .*not at right angles"
    with pytest.raises(UserError, match=message):
        SliceDataset(str(folder), spec=SPEC)


def test_an_axis_at_45_degrees_is_turned_as_the_images(tmp_path: Path):
    _, label = turned_pair(tmp_path)
    item = CaseDataset(str(tmp_path), spec=SPEC)[0]
    assert item["labels"].sum() == label.sum()
    assert torch.equal(item["labels"] > 0, item["inputs"][:, 0] > 0.5)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".mha", ".nrrd"])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, suffix: str):
    path = write_volume(tmp_path / f"a{suffix}", ct_and_label()[0])
    read_volume([path], None)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=f"cannot read .*a{suffix}"):
        read_volume([path], None)


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
def test_no_flipped_bit_of_a_packed_file_is_overlooked(tmp_path: Path, suffix: str):
    image = np.random.default_rng(0).integers(-300, 600, (6, 16, 16)).astype(np.int16)
    path = write_volume(tmp_path / f"a{suffix}", image)
    whole = path.read_bytes()
    for place in range(len(whole) // 2, len(whole), 97):
        content = bytearray(whole)
        content[place] ^= 16
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"cannot read .*a{suffix}"):
            read_volume([path], None)


@pytest.mark.parametrize("change", [(b"CompressedDataSize", b"CompressedDataSomE"), (b"Size = ", b"Size = 9")])
def test_a_metaimage_whose_size_is_not_told_is_refused(tmp_path: Path, change: tuple[bytes, bytes]):
    """ITK would leave its voxels as the memory happens to be."""
    path = write_volume(tmp_path / "a.mha", ct_and_label()[0])
    path.write_bytes(path.read_bytes().replace(*change, 1))
    with pytest.raises(UserError, match=r"cannot read .*a\.mha: damaged or cut short \(CompressedDataSize"):
        read_volume([path], None)


def test_big_endian_and_named_wrong(tmp_path: Path):
    """Headers of the other byte order are understood; what is not packed may be named .gz."""
    image = ct_and_label()[0]
    path = write_volume(tmp_path / "a.nii", image)
    renamed = tmp_path / "b.nii.gz"
    shutil.copy(path, renamed)
    np.testing.assert_array_equal(read_volume([renamed], None).image[0], image)
    content = path.read_bytes()
    header = np.frombuffer(content[:348], np.uint8).copy()
    for start, stop, width in ((0, 4, 4), (40, 56, 2), (70, 74, 2), (76, 120, 4), (252, 256, 2), (256, 328, 4)):
        header[start:stop] = header[start:stop].reshape(-1, width)[:, ::-1].ravel()
    values = np.frombuffer(content[352:], "<i2").astype(">i2").tobytes()
    path.write_bytes(header.tobytes() + content[348:352] + values)
    np.testing.assert_array_equal(read_volume([path], None).image[0], image)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="1 bytes of 120 are missing"):
        read_volume([path], None)


def test_values_that_are_no_numbers_are_refused(tmp_path: Path):
    """ITK makes zeros of them in NIfTI files, and leaves them in others."""
    for folder, name, count in (("images", "b", 3), ("labels", "a", 1)):
        _write(tmp_path, "images", "a", "b", labels="labels")
        values = ct_and_label()[1].astype(np.float32)
        values[1, 1, :count] = np.inf
        write_volume(tmp_path / folder / f"{name}.nii.gz", values)
        with pytest.raises(UserError, match=f"{folder}/{name}.nii.gz: {count} of 60 values are NaN or infinite"):
            list(CaseDataset(str(tmp_path), spec=SPEC))


def test_a_cache_depends_on_images_and_labels(folder: Path):
    found = SliceDataset(str(folder), spec=SPEC).files()
    assert {path.parent.name for path in found} == {"images", "labels"}


def test_channels_that_the_file_does_not_have(folder: Path):
    spec = {**SPEC, "channels": {"T1": "ZScore", "T2": "ZScore"}}
    with pytest.raises(UserError, match=r"pt_1.nii.gz: 1 channel\(s\), expected 2"):
        CaseDataset(str(folder), spec=spec)[0]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd"])
def test_a_file_of_two_dimensions_is_no_volume(tmp_path: Path, suffix: str):
    sitk.WriteImage(sitk.GetImageFromArray(ct_and_label(1)[0][0]), str(tmp_path / f"a{suffix}"))
    with pytest.raises(UserError, match="has 2 dimensions and 1 components .* expected one volume"):
        read_volume([tmp_path / f"a{suffix}"], None)
