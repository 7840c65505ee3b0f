"""Cases predicted as nnU-Net 2.8.1 predicted them (tools/dev/nnunet_reference.py), and its steps by arithmetic."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch

from medseg_kd.datasets import CTNormalization, NoNormalization
from medseg_kd.datasets.transforms import zoom_planes
from medseg_kd.datasets.volumes import read_image, to_raw
from medseg_kd.errors import UserError
from medseg_kd.inference import NnUNetPredictor, Predictor
from medseg_kd.inference.loading import load_predictor
from medseg_kd.inference.nnunet_case import normalised, resample, tile_starts
from medseg_kd.models import NnUNetSegmentor
from medseg_kd.models.nnunet_folds import View
from medseg_kd.nnunet_files import read_plan
from tests.inference.nnunet_cases import EXAMPLES, RAS, Example, write
from tests.nnunet_results import plans_json, write_json, write_results

REFERENCE = Path(__file__).with_name("nnunet_reference.npz")
FEW = 1e-3
"""Of the voxels: a tie that rounding decides otherwise on another machine."""


@pytest.mark.parametrize("name", EXAMPLES)
def test_masks_are_those_of_nnunets_own_predictor(name: str, tmp_path: Path) -> None:
    example = EXAMPLES[name]
    results, files = write(example, tmp_path)
    wanted = np.load(REFERENCE)[name]
    found = NnUNetPredictor(results, "cpu", example.folds, example.mirror)(files)
    assert np.mean(found.labels != wanted) <= FEW
    assert len(np.unique(wanted)) > 1
    assert found.image is not None
    first = sitk.ReadImage(str(files[0]))
    assert found.image.GetDirection() == first.GetDirection()
    assert found.image.GetOrigin() == first.GetOrigin()


@pytest.mark.parametrize("name", ["RAS with a margin", "transposed", "regions"])
def test_a_case_of_a_data_set_is_predicted_alike(name: str, tmp_path: Path) -> None:
    """Its slices lie in LPS, in the values of the file."""
    example = EXAMPLES[name]
    results, files = write(example, tmp_path)
    raw = to_raw(map(read_image, files))
    model = NnUNetSegmentor(str(results))
    model.sees_raw = True
    volume = torch.from_numpy(raw.image.astype(np.float32)).transpose(0, 1)
    about = {"spacing": raw.spacing, "geometry": raw.geometry}
    labels = model.predict_volume(volume, tuple(volume.shape[2:]), about).numpy()
    image = sitk.GetImageFromArray(labels)
    assert raw.geometry is not None
    image.SetDirection(raw.geometry["direction"])
    back = sitk.GetArrayFromImage(sitk.DICOMOrient(image, raw.geometry["orientation"]))
    assert np.mean(back != np.load(REFERENCE)[name]) <= FEW


def test_scaled_slices_of_a_data_set_give_the_same(tmp_path: Path) -> None:
    """Where there is no margin to cut, the rules of the data do as well as the values of the file."""
    results, files = write(Example(plans_json(), direction=RAS), tmp_path)
    raw = to_raw(map(read_image, files))
    about = {"spacing": raw.spacing, "geometry": raw.geometry}
    model = NnUNetSegmentor(str(results))
    scaled = torch.from_numpy(CTNormalization(-150, 250, 60, 80)(raw.image)).transpose(0, 1)
    plain = model.predict_volume(scaled, None, about)
    model.sees_raw = True
    exact = model.predict_volume(torch.from_numpy(raw.image.astype(np.float32)).transpose(0, 1), None, about)
    assert (plain != exact).float().mean() <= FEW
    model.sees_raw, model.network.view = False, View(((0.0, 1.0, 400 / 80, (-150 - 60) / 80),))
    windowed = torch.from_numpy(raw.image.clip(-150, 250).astype(np.float32) + 150).div(400).transpose(0, 1)
    assert (model.predict_volume(windowed, None, about) != exact).float().mean() <= FEW


def test_slices_of_unknown_spacing_are_not_resampled(tmp_path: Path) -> None:
    """As if they had that of the plans, also where those exchange rows and columns."""
    plans = {**plans_json(spacing=[2.0, 0.5]), "transpose_forward": [0, 2, 1]}
    model = NnUNetSegmentor(str(write_results(tmp_path, plans)))
    volume = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 1, 30, 26)).astype(np.float32))
    plain = model.predict_volume(volume)
    assert torch.equal(plain, model.predict_volume(volume, None, {"spacing": (3.0, 0.5, 2.0)}))
    assert not torch.equal(plain, model.predict_volume(volume, None, {"spacing": (3.0, 2.0, 0.5)}))


def test_resized_slices_have_larger_pixels(tmp_path: Path) -> None:
    model = NnUNetSegmentor(str(write_results(tmp_path)))
    volume = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 1, 20, 26)).astype(np.float32))
    labels = model.predict_volume(volume, (40, 26), {"spacing": (3.0, 0.5, 1.0)})
    assert labels.shape == (2, 40, 26)
    own = model.predict_volume(volume, None, {"spacing": (3.0, 1.0, 1.0)})
    assert np.array_equal(labels.numpy(), zoom_planes(own.numpy(), (40, 26), order=0))


def test_probabilities_are_those_of_the_labels(tmp_path: Path) -> None:
    results, files = write(EXAMPLES["RAS with a margin"], tmp_path)
    predictor = NnUNetPredictor(results, "cpu")
    kept: list[torch.Tensor] = []
    source = predictor.read(files)
    labels = predictor.labels(source, kept.append)
    probabilities = torch.cat(kept)
    assert probabilities.shape == (4, 3, 50, 41)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(4, 50, 41))
    assert np.array_equal(probabilities.argmax(1).numpy(), labels)
    assert predictor.outputs == ["background", "liver", "spleen"]
    assert (probabilities[0, 0] == 1).all(), "the first slice lies outside of what is not zero"


def test_images_are_predicted_as_slices(tmp_path: Path) -> None:
    results, _ = write(EXAMPLES["z-score and others"], tmp_path)
    predictor = NnUNetPredictor(results, "cpu")
    values = np.random.default_rng(0).normal(50, 100, (3, 1, 30, 40)).astype(np.float32)
    volume = predictor(values, spacing=(999.0, 1.0, 1.0))
    assert np.array_equal(predictor(values[:, 0]).labels, volume.labels[0])
    with pytest.raises(UserError, match=r"the array does not tell its spacing.*Give spacing=\(z, y, x\)"):
        predictor(values)


def test_the_results_folder_takes_the_place_of_a_checkpoint(tmp_path: Path) -> None:
    results = write_results(tmp_path)
    predictor = load_predictor(results, "cpu")
    assert isinstance(predictor, NnUNetPredictor)
    assert predictor.spec.channels[0].intensity == NoNormalization()
    with pytest.raises(UserError, match="Leave --ensemble, --orientation and --decode out"):
        load_predictor(results, "cpu", orientation="LPS")
    with pytest.raises(UserError, match=r"holds results of nnU-Net, no checkpoint of train.py: NnUNetPredictor\("):
        Predictor.from_checkpoint(results)
    with pytest.raises(UserError, match="device 'abacus' cannot be used"):
        load_predictor(results, "abacus")


def test_a_masked_z_score_counts_what_is_not_zero_in_any_channel(tmp_path: Path) -> None:
    """A hole of zeros inside counts, and so does what another channel has; outside values stay 0."""
    plans = plans_json(("ZScoreNormalization", True), ("NoNormalization", False))
    plan = read_plan(write_json(tmp_path / "plans.json", plans))
    image = np.zeros((2, 3, 6, 6), np.float32)
    image[0, :, 1:5, 1:5] = np.arange(48).reshape(3, 4, 4) + 1
    image[0, 1, 2, 2] = 0
    image[1, :, 0, 3] = 7
    scaled = normalised(image, plan)
    inside = (image != 0).any(0)
    inside[1, 2, 2] = True
    counted = image[0][inside]
    np.testing.assert_allclose(scaled[0][inside], (counted - counted.mean()) / counted.std(), atol=1e-5)
    assert (scaled[0][~inside] == 0).all()
    assert np.array_equal(scaled[1], image[1])


def test_resampling_stays_within_the_range() -> None:
    image = np.zeros((1, 2, 8, 8), np.float32)
    image[0, 1, 4:] = 1
    grown = resample(image, (2, 13, 8), (5, 1, 1), (5, 8 / 13, 1), 3)
    assert (grown.shape, grown.min(), grown.max()) == ((1, 2, 13, 8), 0, 1)
    assert (grown[0, 0] == 0).all()
    assert resample(image, (2, 8, 8), (5, 1, 1), (5, 1, 1), 3) is image


@pytest.mark.parametrize(
    ("side", "patch", "starts"),
    [(32, 32, [0]), (33, 32, [0, 1]), (110, 64, [0, 23, 46]), (100, 32, [0, 14, 27, 41, 54, 68])],
)
def test_tiles_overlap_by_half_or_more(side: int, patch: int, starts: list[int]) -> None:
    assert list(tile_starts(side, patch)) == starts
