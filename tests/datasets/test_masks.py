"""Masks of any source: found, paired by case, and brought to one grid or refused."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from medseg_kd.datasets.masks import MaskFiles, find_masks, pair_masks, read_pair, spacing_is_known
from medseg_kd.errors import UserError
from tests.datasets.volume_files import about_45_degrees, ct_and_label, write_volume

_, LABEL = ct_and_label()


def png(path: Path, label: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(label).save(path)


def h5(path: Path, label: np.ndarray = LABEL, **attributes: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["label"] = label.astype(np.float32)
        file.attrs.update(attributes)
    return path


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_cases_in_natural_order_whatever_their_kind(tmp_path: Path) -> None:
    names = ("case10.nii.gz", "case2.mha", "case1.nrrd", "dataset.json", ".case3.nii", "case1.npz", "plans.json")
    found, notes = find_masks(touch(tmp_path / "a", *names))
    assert list(found) == ["case1", "case2", "case10"]
    assert notes == [f"{tmp_path / 'a'}: not read, as masks are .nii.gz there: case1.npz"]
    assert list(find_masks(touch(tmp_path / "b", "case0008.npy.h5", "case0009.h5"))[0]) == ["case0008", "case0009"]


def test_slices_of_a_case(tmp_path: Path) -> None:
    flat = touch(tmp_path / "flat", "a_slice010.png", "a_slice009.png", "b_slice001.png", "photo.png")
    found, _ = find_masks(flat)
    assert list(found) == ["a", "b", "photo"]
    assert found["a"].slices.indices == (9, 10) and found["photo"].slices is None
    inside, _ = find_masks(touch(tmp_path / "inside", "a/001.png", "a/002.png", "empty/readme.txt"))
    assert list(inside) == ["a"] and inside["a"].slices.indices == (1, 2)
    with pytest.raises(UserError, match=r"case a \(.*holes/a\) lacks the slices 2"):
        find_masks(touch(tmp_path / "holes", "a/001.png", "a/003.png"))


@pytest.mark.parametrize("inner", ["", "segmentations/"])
def test_a_file_for_each_organ(tmp_path: Path, inner: str) -> None:
    touch(tmp_path, "s0001/ct.txt", f"s0001/{inner}liver.nii.gz", f"s0001/{inner}aorta.nii.gz", "meta.csv")
    found, _ = find_masks(tmp_path)
    assert found["s0001"].organs == {
        name: tmp_path / f"s0001/{inner}{name}.nii.gz" for name in found["s0001"].organs or ()
    }
    assert {*found["s0001"].organs} == {"liver", "aorta"}


def test_what_is_no_folder_of_masks_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a/readme.txt", "twice/case1.nii", "twice/case1.mha")
    for path, message in (
        (tmp_path / "a", "a holds no masks: expected <case>.nii.gz"),
        (tmp_path / "a/readme.txt", "readme.txt: expected a mask: one of .nii.gz"),
        (tmp_path / "nowhere", "nowhere does not exist"),
        (tmp_path / "twice", "case1.mha and case1.nii are both masks of case1"),
    ):
        with pytest.raises(UserError, match=message):
            find_masks(path)


def test_missing_and_extra_cases(tmp_path: Path) -> None:
    truth = touch(tmp_path / "labelsTr", "case1.nii.gz", "case2.nii.gz")
    found = touch(tmp_path / "predictions", "case2.nii.gz", "case3.nii.gz")
    with pytest.raises(UserError, match="1 of 2 cases .*no prediction: case1; .* has case3 besides.*--allow-missing"):
        pair_masks(found, truth)
    pairs, notes = pair_masks(found, truth, allow_missing=True)
    assert [pair.case for pair in pairs] == ["case2"]
    assert notes == [
        "1 of 2 cases have no prediction and are in no mean: case1",
        "1 prediction(s) have no truth and are not scored: case3",
    ]
    (pair,), _ = pair_masks(found / "case3.nii.gz", truth / "case1.nii.gz")
    assert pair.case == "case1" and pair.prediction.path.name == "case3.nii.gz"
    with pytest.raises(UserError, match="2 of 2 cases .* no prediction: case1, case2; .*pair by their names"):
        pair_masks(touch(tmp_path / "others", "a.nii"), truth, allow_missing=True)


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "SLA"])
def test_turned_and_mirrored_axes_are_the_same_grid(tmp_path: Path, orientation: str) -> None:
    truth = write_volume(tmp_path / "truth.nii.gz", LABEL)
    found = write_volume(tmp_path / "found.mha", LABEL, orientation=orientation)
    pred, true, spacing = read_pair(MaskFiles(found), MaskFiles(truth))
    np.testing.assert_array_equal(pred, true)
    assert np.allclose(sorted(spacing), (1.5, 2, 3))


def test_axes_at_45_degrees_are_not_torn_apart_by_rounding(tmp_path: Path) -> None:
    paths = [
        write_volume(tmp_path / f"{sign}.mha", LABEL, (1.0, 1.0, 3.0), direction=about_45_degrees(sign * 1e-6))
        for sign in (-1, 1)
    ]
    pred, true, _ = read_pair(*map(MaskFiles, paths))
    np.testing.assert_array_equal(pred, true)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda image: image.SetSpacing((1.5, 2.0, 3.1)), r"spacing \(1.5, 2, 3.1\) and \(1.5, 2, 3\) mm"),
        (lambda image: image.SetOrigin((-7.0, 11.0, 6.0)), r"origin \(-7, 11, 6\) and \(-7, 11, 5\) mm"),
        (lambda image: image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1)), "direction"),
        (lambda image: image[1:], r"size \(3, 5, 3\) and \(4, 5, 3\)"),
    ],
    ids=["spacing", "origin", "direction", "size"],
)
def test_other_grids_are_refused(tmp_path: Path, change, message: str) -> None:
    truth = write_volume(tmp_path / "truth.nii.gz", LABEL)
    image = sitk.ReadImage(str(truth))
    image = change(image) or image
    sitk.WriteImage(image, str(tmp_path / "found.nii.gz"))
    with pytest.raises(UserError, match=f"(?s)found.nii.gz does not lie on the grid of .*truth.nii.gz:.*{message}"):
        read_pair(MaskFiles(tmp_path / "found.nii.gz"), MaskFiles(truth))


def test_what_a_file_does_not_tell_is_taken_from_the_other(tmp_path: Path) -> None:
    """An h5 volume has rows from front to back; a NIfTI file in RAS is turned to them."""
    volume = MaskFiles(write_volume(tmp_path / "case.nii.gz", LABEL, orientation="RAS"))
    silent = MaskFiles(h5(tmp_path / "case.npy.h5"))
    told = MaskFiles(h5(tmp_path / "told.h5", spacing=(3.0, 2.0, 1.5)))
    for truth, spacing in ((silent, None), (told, (3.0, 2.0, 1.5))):
        pred, true, found = read_pair(volume, truth)
        np.testing.assert_array_equal(pred, LABEL)
        np.testing.assert_array_equal(true, LABEL)
        assert found == spacing and spacing_is_known(truth) == (spacing is not None)
    wrong = h5(tmp_path / "wrong.h5", spacing=(3.0, 2.0, 1.0))
    with pytest.raises(UserError, match=r"spacing \(1, 2, 3\) and \(1.5, 2, 3\) mm"):
        read_pair(MaskFiles(wrong), volume)
    place = {"origin": (0.0, 0.0, 0.0), "direction": (1.0, 0, 0, 0, 1, 0, 0, 0, 1)}
    with pytest.raises(UserError, match=r"origin \(0, 0, 0\) and \(-7, 11, 5\)"):
        read_pair(MaskFiles(h5(tmp_path / "else.h5", spacing=(3.0, 2.0, 1.5), **place)), volume)


def test_images_and_slices(tmp_path: Path) -> None:
    for folder in ("found", "truth"):
        for index, plane in enumerate(LABEL):
            png(tmp_path / folder / f"case_slice{index:03d}.png", plane)
        png(tmp_path / folder / "photo.png", LABEL[0])
        np.savez(tmp_path / f"{folder}.npz", label=LABEL, spacing=(3.0, 2.0, 1.5))
    pairs, _ = pair_masks(tmp_path / "found", tmp_path / "truth")
    shapes = [read_pair(pair.prediction, pair.truth)[1].shape for pair in pairs]
    assert shapes == [LABEL.shape, LABEL.shape[1:]]
    pred, true, spacing = read_pair(MaskFiles(tmp_path / "found.npz"), pairs[0].truth)
    np.testing.assert_array_equal(pred, true)
    assert spacing is None
    with pytest.raises(UserError, match="one is an image, the other a volume"):
        read_pair(pairs[0].prediction, pairs[1].truth)
    (tmp_path / "found/case_slice002.png").unlink()
    (pair, _), _ = pair_masks(tmp_path / "found", tmp_path / "truth")
    with pytest.raises(UserError, match="slices 2 are in one of them alone"):
        read_pair(pair.prediction, pair.truth)


def test_files_that_are_no_labels(tmp_path: Path) -> None:
    truth = MaskFiles(h5(tmp_path / "truth.h5"))
    np.savez(tmp_path / "probabilities.npz", probabilities=LABEL)
    (tmp_path / "broken.nii.gz").write_text("no volume")
    Image.fromarray(LABEL[0] + np.float32(0.5)).save(tmp_path / "half.tif")
    for path, message in (
        (h5(tmp_path / "half.h5", LABEL + 0.5), "half.h5: a label of shape .* whole numbers in 0..65535"),
        (
            tmp_path / "half.tif",
            "half.tif: a label of shape .* and type float32: expected .* whole numbers in 0..65535",
        ),
        (tmp_path / "probabilities.npz", "holds probabilities, expected label"),
        (tmp_path / "broken.nii.gz", "cannot read .*broken.nii.gz"),
    ):
        with pytest.raises(UserError, match=message):
            read_pair(MaskFiles(path), truth)
