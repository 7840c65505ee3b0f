import hashlib
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from volume_files import ct_and_label, shear, turned_pair, write_volume

from medseg_kd.datasets.conversion import Pair, Recipe, convert, find_pairs, load_label_map
from medseg_kd.datasets.intensities import Window
from medseg_kd.datasets.spec import Channel, DataSpec
from medseg_kd.errors import UserError

WINDOW = (-100.0, 300.0)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two patients under ``images`` and ``labels``."""
    for number in (1, 2):
        image, label = ct_and_label(number)
        write_volume(tmp_path / "images" / f"pt_{number}.nii.gz", image)
        write_volume(tmp_path / "labels" / f"pt_{number}.nii.gz", label)
    return tmp_path


def _ct(low: float, high: float) -> Channel:
    return Channel("CT", Window(low, high))


def _recipe(name: str = "none", classes: tuple[str, ...] = ()) -> Recipe:
    return Recipe(_ct(*WINDOW), load_label_map(name), classes)


def _run(source: Path, split: str = "train", recipe: Recipe | None = None, overwrite: bool = False) -> dict:
    pairs = find_pairs(source / "images", source / "labels")
    return convert({split: pairs}, source / "out", recipe or _recipe(), "test", overwrite)


def test_slices_and_volumes_hold_the_windowed_image(source: Path):
    _run(source, "train")
    _run(source, "test")
    image, label = ct_and_label(2)
    expected = np.clip((image.astype(float) + 100) / 400, 0, 1)
    with np.load(source / "out" / "train_npz" / "pt_2_slice001.npz") as file:
        assert file["image"].dtype == file["label"].dtype == np.float32
        np.testing.assert_allclose(file["image"], expected[1], atol=1e-6)
        np.testing.assert_array_equal(file["label"], label[1])
        np.testing.assert_allclose(file["spacing"], [3, 2, 1.5])
    with h5py.File(source / "out" / "test_vol_h5" / "pt_2.npy.h5") as file:
        np.testing.assert_allclose(file["image"][:], expected, atol=1e-6)
        np.testing.assert_array_equal(file["label"][:], label)
        np.testing.assert_allclose(file.attrs["spacing"], [3, 2, 1.5])
        assert file.attrs["case_name"] == "pt_2"
    lists = source / "out" / "lists" / "lists_Synapse"
    assert (lists / "train.txt").read_text().split() == [f"pt_{n}_slice00{i}" for n in (1, 2) for i in range(3)]
    assert (lists / "test_vol.txt").read_text() == "pt_1\npt_2\n"


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "PIR", "SAL"])
def test_any_orientation_gives_the_same_arrays_and_leads_back(tmp_path: Path, orientation: str):
    image, label = ct_and_label()
    path = write_volume(tmp_path / "images" / "a.nii.gz", image, orientation=orientation)
    write_volume(tmp_path / "labels" / "a.nii.gz", label, orientation=orientation)
    _run(tmp_path, "test")
    with h5py.File(tmp_path / "out" / "test_vol_h5" / "a.npy.h5") as file:
        np.testing.assert_array_equal(file["label"][:], label)
        np.testing.assert_allclose(file.attrs["spacing"], [3, 2, 1.5], rtol=1e-6)
        back = sitk.GetImageFromArray(file["label"][:])
        back.SetSpacing([float(mm) for mm in file.attrs["spacing"][::-1]])
        back.SetOrigin(file.attrs["origin"].tolist())
        back.SetDirection(file.attrs["direction"].tolist())
        back = sitk.DICOMOrient(back, str(file.attrs["original_orientation"]))
    original = sitk.ReadImage(str(path))
    assert back.GetSize() == original.GetSize()
    np.testing.assert_allclose(back.GetOrigin(), original.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(back.GetDirection(), original.GetDirection(), atol=1e-6)
    np.testing.assert_allclose(back.GetSpacing(), original.GetSpacing(), rtol=1e-6)


@pytest.mark.parametrize("kind", [np.int16, np.uint8, np.int32, np.float64])
def test_the_window_is_worked_out_in_float32(tmp_path: Path, kind: type):
    """Bit for bit what earlier versions wrote."""
    values = np.random.default_rng(1).normal(90, 40, (3, 5, 4)).astype(kind)
    write_volume(tmp_path / "images" / "a.nii.gz", values)
    write_volume(tmp_path / "labels" / "a.nii.gz", np.ones(values.shape, np.uint8))
    low, high = 50.3, 133.7
    _run(tmp_path, "test", Recipe(_ct(low, high), load_label_map("none")))
    expected = values.astype(np.float32)
    np.clip(expected, low, high, out=expected)
    expected -= low
    expected /= high - low
    with h5py.File(tmp_path / "out" / "test_vol_h5" / "a.npy.h5") as file:
        assert file["image"][:].tobytes() == expected.tobytes()


def test_voxel_counts_equal_the_sources(tmp_path: Path):
    image, _ = ct_and_label()
    label = np.random.default_rng(3).choice([0, 1, 2, 5, 52, 90, 117], image.shape).astype(np.uint8)
    write_volume(tmp_path / "images" / "a.nii.gz", image)
    write_volume(tmp_path / "labels" / "a.nii.gz", label, orientation="LPS")
    voxels = _run(tmp_path, recipe=_recipe("totalsegmentator"))["splits"]["train"]["a"]["voxels"]
    organs = {"spleen": 1, "right kidney": 2, "liver": 5, "aorta": 52}
    assert {organ: voxels[organ] for organ in organs} == {organ: (label == v).sum() for organ, v in organs.items()}
    assert voxels["background"] == np.isin(label, (0, 90, 117)).sum()
    assert voxels["pancreas"] == 0


def test_manifest(source: Path):
    _run(source, "train", _recipe(classes=("brainstem", "cord", "mandible")))
    manifest = _run(source, "test")
    out = source / "out"
    assert manifest == json.loads((out / "manifest.json").read_text())
    assert manifest["classes"] == ["background", "brainstem", "cord", "mandible"]
    assert manifest["window"] == [-100, 300]
    classes = ("background", "brainstem", "cord", "mandible")
    expected = DataSpec((Channel("CT", Window(-100, 300)),), classes, orientation="LPS")
    assert DataSpec.from_json(manifest["spec"], "the manifest") == expected
    assert {split: list(cases) for split, cases in manifest["splits"].items()} == {
        "train": ["pt_1", "pt_2"],
        "test": ["pt_1", "pt_2"],
    }
    case = manifest["splits"]["train"]["pt_1"]
    assert case["slices"] == 3
    assert case["voxels"]["cord"] == int((ct_and_label(1)[1] == 2).sum())
    assert case["sources"]["image"] == {
        "name": "pt_1.nii.gz",
        "sha256": hashlib.sha256((source / "images" / "pt_1.nii.gz").read_bytes()).hexdigest(),
    }
    for files in (c["files"] for split in manifest["splits"].values() for c in split.values()):
        for name, checksum in files.items():
            assert hashlib.sha256((out / name).read_bytes()).hexdigest() == checksum


def test_a_split_is_replaced_only_when_asked(source: Path):
    _run(source)
    with pytest.raises(UserError, match="--overwrite"):
        _run(source)
    for folder in ("images", "labels"):
        (source / folder / "pt_1.nii.gz").unlink()
    _run(source, overwrite=True)
    names = sorted(path.name for path in (source / "out" / "train_npz").iterdir())
    assert names == [f"pt_2_slice00{index}.npz" for index in range(3)]


def test_both_splits_must_be_prepared_alike(source: Path):
    _run(source, "train")
    with pytest.raises(UserError, match="window"):
        _run(source, "test", Recipe(_ct(-1.0, 1.0), load_label_map("none")))
    with pytest.raises(UserError, match="label_map"):
        _run(source, "test", _recipe("btcv"))
    with pytest.raises(UserError, match="classes"):
        _run(source, "test", _recipe(classes=("a", "b", "c")))
    assert not (source / "out" / "test_vol_h5").exists()


def _entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _refused(source: Path, message: str, recipe: Recipe | None = None) -> None:
    """The conversion fails with the message and leaves nothing behind."""
    before = _entries(source)
    with pytest.raises(UserError, match=message):
        _run(source, recipe=recipe)
    assert _entries(source) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spacing": (1.5, 2.0, 3.1)}, "spacing"),
        ({"orientation": "RAS"}, "direction"),
        ({"array": np.zeros((3, 5, 5), np.uint8)}, "size"),
    ],
)
def test_geometry_that_differs(source: Path, change: dict, message: str):
    write_volume(source / "labels" / "pt_2.nii.gz", **({"array": ct_and_label(2)[1]} | change))
    _refused(source, f"pt_2.nii.gz and pt_2.nii.gz differ in {message}")


def test_origin_that_differs(source: Path):
    path = source / "labels" / "pt_2.nii.gz"
    label = sitk.ReadImage(str(path))
    label.SetOrigin((-7.0, 11.0, 6.0))
    sitk.WriteImage(label, str(path))
    _refused(source, "differ in origin")


def test_all_differing_pairs_are_named_at_once(source: Path):
    for number in (1, 2):
        write_volume(source / "labels" / f"pt_{number}.nii.gz", np.zeros((3, 5, 5), np.uint8))
    _refused(source, r"(?s)pt_1.*pt_2")


def test_files_that_cannot_be_read(source: Path):
    image = source / "images" / "pt_1.nii.gz"
    whole = image.read_bytes()
    image.write_bytes(b"not an image")
    _refused(source, "cannot read .*pt_1")
    image.write_bytes(whole[: len(whole) // 2])
    _refused(source, "cannot read .*pt_1")


@pytest.mark.parametrize("folder", ["images", "labels"])
@pytest.mark.parametrize(("kind", "damage"), [("pt_1.nii.gz", "cut"), ("pt_1.nii", "cut"), ("pt_1.nii.gz", "flipped")])
def test_damage_that_itk_fills_or_overlooks(source: Path, folder: str, kind: str, damage: str):
    image, label = ct_and_label(1)
    (source / folder / "pt_1.nii.gz").unlink()
    path = write_volume(source / folder / kind, image if folder == "images" else label)
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # of the checksum
    path.write_bytes(content if damage == "flipped" else content[:-20])
    _refused(source, rf"cannot read .*{folder}/{kind}: damaged or cut short")


@pytest.mark.parametrize(("value", "count"), [(np.nan, 2), (np.inf, 2)])
def test_values_that_are_no_numbers_are_counted(source: Path, value: float, count: int):
    image = ct_and_label(2)[0].astype(np.float32)
    image[0, 0, :count] = value
    write_volume(source / "images" / "pt_2.nii.gz", image)
    _refused(source, rf"pt_2.nii.gz: {count} of 60 (image )?values are NaN or infinite")


def test_complex_numbers(source: Path):
    image = sitk.Cast(sitk.GetImageFromArray(ct_and_label(1)[0]), sitk.sitkComplexFloat32)
    sitk.WriteImage(image, str(source / "images" / "pt_1.nii.gz"))
    _refused(source, r"pt_1.nii.gz has 3 dimensions and 2 components of complex of 32-bit float")


def test_all_sheared_volumes_are_named_at_once(source: Path):
    for number in (1, 2):
        image, label = ct_and_label(number)
        for folder, array in (("images", image), ("labels", label)):
            (source / folder / f"pt_{number}.nii.gz").unlink()
            shear(write_volume(source / folder / f"pt_{number}.nii", array))
    _refused(source, r"(?s)images/pt_1.nii: .*not at right angles.*labels/pt_1.*images/pt_2.*labels/pt_2")


def test_an_axis_at_45_degrees_is_turned_as_the_images(tmp_path: Path):
    """Directions that differ by rounding must not turn image and label two ways."""
    _, label = turned_pair(tmp_path)
    _run(tmp_path, "test")
    with h5py.File(tmp_path / "out" / "test_vol_h5" / "pt_1.npy.h5") as file:
        assert file["label"][:].sum() == label.sum()
        np.testing.assert_array_equal(file["label"][:] > 0, file["image"][:] > 0.5)


def test_four_dimensions(source: Path):
    path = source / "images" / "pt_1.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 3, 5, 4), np.int16), isVector=False), str(path))
    _refused(source, "4 dimensions")


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (np.full((3, 5, 4), 0.5, np.float32), "not whole numbers"),
        (np.full((3, 5, 4), -1, np.int16), "0..65535"),
        (np.full((3, 5, 4), 300, np.int16), "value 300"),
    ],
)
def test_labels_that_are_none(source: Path, label: np.ndarray, message: str):
    write_volume(source / "labels" / "pt_2.nii.gz", label)
    _refused(source, message)


def test_float_labels_with_whole_numbers_are_labels(source: Path):
    label = ct_and_label(2)[1]
    write_volume(source / "labels" / "pt_2.nii.gz", label.astype(np.float32))
    voxels = _run(source)["splits"]["train"]["pt_2"]["voxels"]
    assert list(voxels.values()) == np.bincount(label.ravel(), minlength=4).tolist()


def test_label_values_that_a_file_does_not_name(source: Path, tmp_path: Path):
    (tmp_path / "map.json").write_text('{"1": 1, "2": 2}')
    _refused(source, "value 3", _recipe(str(tmp_path / "map.json")))


def test_labels_without_any_organ(source: Path, tmp_path: Path):
    (tmp_path / "map.json").write_text('{"99": 1, "*": 0}')
    _refused(source, "all labels are background", _recipe(str(tmp_path / "map.json")))


def test_too_few_class_names(source: Path):
    _refused(source, "classes up to 3", _recipe(classes=("a", "b")))


def test_images_outside_the_window(source: Path):
    write_volume(source / "images" / "pt_2.nii.gz", np.full((3, 5, 4), 4000, np.int16))
    _refused(source, r"outside the window -100 300")


@pytest.mark.parametrize(
    ("window", "classes", "message"),
    [
        ((3, 3), (), "window 3 3"),
        ((-np.inf, 3), (), "window -inf 3"),
        (WINDOW, ("a", "a"), "a class twice"),
        (WINDOW, ("a", "ignore"), "no name of a class"),
        (WINDOW, ("a", " "), "no name of a class"),
    ],
)
def test_recipes_that_cannot_be(window: tuple[float, float], classes: tuple[str, ...], message: str):
    with pytest.raises(UserError, match=message):
        Recipe(_ct(*window), load_label_map("none"), classes)


def test_a_folder_with_other_content_is_not_touched(source: Path):
    (source / "out").mkdir()
    (source / "out" / "notes.txt").write_text("mine")
    _refused(source, "other data")
    assert _entries(source / "out") == ["notes.txt"]


@pytest.mark.parametrize(
    ("cases", "message"), [('{"a": {}}', "splits: train: a: slices is None"), ("{}", "prepared with window None, now")]
)
def test_a_manifest_that_lacks_what_is_needed(source: Path, cases: str, message: str):
    (source / "out").mkdir()
    (source / "out" / "manifest.json").write_text(f'{{"splits": {{"train": {cases}}}}}')
    with pytest.raises(UserError, match=message):
        _run(source, "test")


def test_nothing_is_written_through_a_link(source: Path):
    _run(source, "train")
    (source / "out" / "lists").rename(source / "elsewhere")
    (source / "out" / "lists").symlink_to(source / "elsewhere")
    with pytest.raises(UserError, match=r"out/lists is a link, which is not written through"):
        _run(source, "test")
    assert _entries(source / "elsewhere" / "lists_Synapse") == ["train.txt"]


def test_an_interrupted_run_leaves_the_folder_as_it_was(source: Path, monkeypatch: pytest.MonkeyPatch):
    _run(source, "train")
    before = {path: path.read_bytes() for path in (source / "out").rglob("*") if path.is_file()}

    def interrupted(pair: Pair, *_):
        raise KeyboardInterrupt

    monkeypatch.setitem(convert.__globals__, "read_volume", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _run(source, "test")
    assert {path: path.read_bytes() for path in (source / "out").rglob("*") if path.is_file()} == before
    assert _entries(source) == ["images", "labels", "out"]
