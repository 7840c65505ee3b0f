import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from medseg_kd.datasets import CaseDataset, Channel, DataSpec, SliceDataset, phantom
from medseg_kd.datasets.conversion.label_maps import SYNAPSE_CLASSES
from medseg_kd.errors import UserError

CLASSES = range(1, len(SYNAPSE_CLASSES))


@pytest.fixture(scope="module")
def default_cases() -> list[tuple[np.ndarray, np.ndarray]]:
    """The 12 training and 4 test cases of the default phantom."""
    return [phantom.phantom_case(seed=0, case=number, slices=16, size=96) for number in range(1, 17)]


def _mean_dice(prediction: np.ndarray, label: np.ndarray) -> float:
    overlaps = [
        2 * ((p == k) & (t == k)).sum() / max(1, (p == k).sum() + (t == k).sum())
        for p, t in zip(prediction, label, strict=True)
        for k in CLASSES
    ]
    return float(np.mean(overlaps))


@pytest.mark.parametrize("sigma", [0, 1, 3])
@pytest.mark.parametrize("prior", [True, False])
def test_grey_value_alone_does_not_tell_the_organs(default_cases, sigma: float, prior: bool):
    """A histogram Bayes classifier, also on images smoothed in the plane, stays far below 40 % mean Dice."""
    images = np.stack([gaussian_filter(image, (0, sigma, sigma)) if sigma else image for image, _ in default_cases])
    labels = np.stack([label for _, label in default_cases])
    bins = np.minimum((images * 128).astype(int), 127)
    likelihood = np.stack([np.bincount(bins[:12][labels[:12] == k], minlength=128) for k in range(9)]) + 1e-3
    if not prior:
        likelihood /= likelihood.sum(1, keepdims=True)
    assert _mean_dice(likelihood.argmax(0)[bins[12:]], labels[12:]) < 0.4


def test_place_alone_does_not_tell_the_organs(default_cases):
    """The most frequent training class at each voxel is far from the truth: cases differ in anatomy."""
    labels = np.stack([label for _, label in default_cases])
    atlas = np.stack([(labels[:12] == k).mean(0) for k in range(9)]).argmax(0)
    assert _mean_dice(np.stack([atlas] * 4), labels[12:]) < 0.75


def test_values_and_types(default_cases):
    for image, label in default_cases:
        assert image.shape == label.shape == (16, 96, 96)
        assert (image.dtype, label.dtype) == (np.float32, np.uint8)
        assert 0 <= image.min() < 0.01
        assert 0.9 < image.max() <= 1


def test_organs_are_large_enough_for_a_network_with_stride_four(default_cases):
    for _, label in default_cases:
        counts = np.bincount(label.ravel(), minlength=9)
        assert (counts[1:] >= 400).all(), dict(zip(SYNAPSE_CLASSES, counts, strict=True))
        assert ((label == 1).sum(axis=(1, 2)) >= 20).all(), "the aorta crosses every slice"


def test_sides(default_cases):
    """Columns run from the patient's right to the left: right kidney, aorta, left kidney."""
    for _, label in default_cases:
        column = {k: np.nonzero(label == k)[2].mean() for k in CLASSES}
        assert column[4] < column[1] < column[3]
        assert column[5] < column[7]


@pytest.mark.parametrize(("size", "slices", "seed"), [(64, 8, 1), (48, 4, 2), (160, 5, 3), (512, 4, 4)])
def test_every_organ_at_every_size(size: int, slices: int, seed: int):
    for number in (1,) if size == 512 else range(1, 7):
        _, label = phantom.phantom_case(seed, number, slices, size)
        assert set(np.unique(label)) == set(range(9))


def test_anatomy_scales_with_size(default_cases):
    _, large = phantom.phantom_case(0, 1, 16, 192)
    _, small = default_cases[0]
    assert (large[:, ::2, ::2] == small).mean() > 0.97


def test_cases_and_seeds_differ(default_cases):
    other, _ = phantom.phantom_case(1, 1, 16, 96)
    assert not np.array_equal(default_cases[0][1], default_cases[1][1])
    assert not np.array_equal(other, default_cases[0][0])


def _content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.suffix in (".npz", ".h5")}


def test_layout(tmp_path: Path):
    manifest = phantom.write_phantom(tmp_path / "p", cases=2, test_cases=1, slices=4, size=48, seed=5)
    root = tmp_path / "p"
    lists = root / "lists" / "lists_Synapse"
    assert (lists / "train.txt").read_text().split()[3:5] == ["case0001_slice003", "case0002_slice000"]
    assert (lists / "test_vol.txt").read_text() == "case0003\n"
    image, label = phantom.phantom_case(5, 2, 4, 48)
    with np.load(root / "train_npz" / "case0002_slice001.npz") as file:
        assert file["image"].dtype == file["label"].dtype == np.float32
        np.testing.assert_array_equal(file["image"], image[1])
        np.testing.assert_array_equal(file["label"], label[1])
    with h5py.File(root / "test_vol_h5" / "case0003.npy.h5") as file:
        assert file["image"].shape == file["label"].shape == (4, 48, 48)
        np.testing.assert_allclose(file.attrs["spacing"], [60, 380 / 48, 380 / 48])
    assert json.loads((root / "manifest.json").read_text()) == manifest
    assert manifest["synthetic"] is True
    assert manifest["splits"]["train"]["case0002"]["voxels"]["liver"] == int((label == 5).sum())
    assert "synthetic" in (root / "README.txt").read_text()


def test_what_the_phantom_is(tmp_path: Path):
    phantom.write_phantom(tmp_path, 1, 1, 4, 48)
    expected = DataSpec((Channel("CT"),), SYNAPSE_CLASSES, orientation="LPS")
    assert SliceDataset(str(tmp_path)).spec == CaseDataset(str(tmp_path)).spec == expected


def test_the_phantom_of_an_earlier_version_still_serves(tmp_path: Path):
    """It had no spec in its manifest."""
    manifest = phantom.write_phantom(tmp_path, 1, 1, 4, 48)
    older = {key: value for key, value in manifest.items() if key != "spec"}
    (tmp_path / "manifest.json").write_text(json.dumps(older))
    assert phantom.write_phantom(tmp_path, 1, 1, 4, 48) == older
    assert SliceDataset(str(tmp_path)).spec == DataSpec((Channel("CT"),), SYNAPSE_CLASSES)


def test_more_cases_leave_the_earlier_ones_alone(tmp_path: Path):
    phantom.write_phantom(tmp_path / "a", 2, 1, 4, 48)
    phantom.write_phantom(tmp_path / "b", 4, 1, 4, 48)
    few, many = _content(tmp_path / "a"), _content(tmp_path / "b")
    shared = few.keys() & many.keys()
    assert len(shared) == 8
    assert all(few[name] == many[name] for name in shared)
    third = np.load(tmp_path / "b" / "train_npz" / "case0003_slice002.npz")["image"]
    with h5py.File(tmp_path / "a" / "test_vol_h5" / "case0003.npy.h5") as file:
        np.testing.assert_array_equal(file["image"][2], third)


def test_the_same_phantom_is_kept_and_another_refused(tmp_path: Path):
    phantom.write_phantom(tmp_path, 1, 1, 4, 48)
    before = (tmp_path / "train_npz").stat().st_mtime_ns
    phantom.write_phantom(tmp_path, 1, 1, 4, 48)
    assert (tmp_path / "train_npz").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="holds a phantom made with"):
        phantom.write_phantom(tmp_path, 1, 1, 4, 48, seed=1)
    (tmp_path / "train_npz" / "case0001_slice000.npz").unlink()
    with pytest.raises(UserError, match="case0001_slice000.npz"):
        phantom.write_phantom(tmp_path, 1, 1, 4, 48)


def test_other_data_is_not_touched(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="other data"):
        phantom.write_phantom(tmp_path, 1, 1, 4, 48)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("name", ["cases", "test_cases", "slices", "size"])
def test_numbers_out_of_range(tmp_path: Path, name: str):
    with pytest.raises(UserError, match=name.replace("_", "-")):
        phantom.write_phantom(tmp_path / "p", **{name: 0})


def test_nothing_is_left_of_an_interrupted_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    draw = phantom.phantom_case

    def interrupted(seed: int, case: int, *rest):
        if case == 2:
            raise KeyboardInterrupt
        return draw(seed, case, *rest)

    monkeypatch.setattr(phantom, "phantom_case", interrupted)
    with pytest.raises(KeyboardInterrupt):
        phantom.write_phantom(tmp_path / "p", 2, 1, 4, 48)
    assert list(tmp_path.iterdir()) == []
