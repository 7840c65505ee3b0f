"""HD95 by each convention: equal to the library that it is named after, on voxels of any size."""

import math

import numpy as np
import pytest
import torch
from medpy.metric.binary import hd95 as medpy_hd95
from monai.metrics import compute_hausdorff_distance
from scipy import ndimage

from medseg_kd.errors import UserError
from medseg_kd.evaluation import score_case
from medseg_kd.evaluation.measures.surface_distance import CONVENTIONS, HD95

surface_distance = pytest.importorskip("surface_distance")
SPACING = (3.0, 0.76, 0.9)


def medpy(pred: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...]) -> float:
    return float(medpy_hd95(pred, truth, spacing))


def monai(pred: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...]) -> float:
    pair = (torch.from_numpy(mask)[None, None].float() for mask in (pred, truth))
    return float(compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=spacing))


def deepmind(pred: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...]) -> float:
    distances = surface_distance.compute_surface_distances(truth, pred, spacing)
    return float(surface_distance.compute_robust_hausdorff(distances, 95))


REFERENCES = {"medpy": medpy, "monai": monai, "deepmind": deepmind}


def hd95(pred: np.ndarray, truth: np.ndarray, convention: str, spacing=SPACING, protocol: str = "strict") -> float:
    pair = (mask.astype(np.uint8) for mask in (pred, truth))
    return score_case(*pair, 2, spacing, protocol, [HD95(convention)])[1]["hd95"]


def blobs(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Smooth objects, some of them cut by the border."""
    rng = np.random.default_rng(seed)
    return ndimage.gaussian_filter(rng.normal(size=shape), rng.uniform(1, 3)) > 0.05


@pytest.mark.parametrize("convention", REFERENCES)
@pytest.mark.parametrize("shape", [(9, 24, 26), (24, 26)])
def test_equals_its_reference(convention: str, shape: tuple[int, ...]) -> None:
    spacing = SPACING[-len(shape) :]
    for seed in range(4):
        pred, truth = blobs(2 * seed, shape), blobs(2 * seed + 1, shape)
        expected = REFERENCES[convention](pred, truth, spacing)
        assert hd95(pred, truth, convention, spacing) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("convention", REFERENCES)
def test_single_voxels_and_a_full_volume(convention: str) -> None:
    one, other, full = np.zeros((3, 5, 6, 7), bool)
    one[0, 0, 0] = other[3, 5, 1] = True
    full[...] = True
    for pred, truth in ((one, other), (one, one), (full, other)):
        expected = REFERENCES[convention](pred, truth, SPACING)
        assert hd95(pred, truth, convention) == pytest.approx(expected, rel=1e-6)


def test_the_place_of_the_percentile_is_that_of_monai() -> None:
    """15201 distances are 0 and 801 are 10, so that it lies at 0.95 of the way; float32 has no 15200.95."""
    pred, truth = np.zeros((2, 11, 15201), bool)
    truth[0] = pred[0] = pred[10, :801] = True
    expected = monai(pred, truth, (1.0, 1.0))
    assert 1e-4 < abs(expected - 9.5) < 1e-2
    assert hd95(pred, truth, "monai", (1.0, 1.0)) == pytest.approx(expected, rel=1e-6)


def test_conventions_differ() -> None:
    pred, truth = blobs(0, (9, 24, 26)), blobs(1, (9, 24, 26))
    assert len({round(hd95(pred, truth, convention), 3) for convention in CONVENTIONS}) == 3


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_the_protocol_says_what_an_absent_organ_is_worth(convention: str) -> None:
    there, nowhere = blobs(0, (4, 8, 8)), np.zeros((4, 8, 8), bool)
    for pair in ((there, nowhere), (nowhere, there), (nowhere, nowhere)):
        assert math.isnan(hd95(*pair, convention))
        assert hd95(*pair, convention, protocol="transunet") == 0.0


def test_what_it_is_called() -> None:
    assert [str(HD95(convention)) for convention in CONVENTIONS] == ["HD95", "HD95 (MONAI)", "HD95 (DeepMind)"]
    with pytest.raises(UserError, match="HD95: convention='itk': expected one of medpy, monai, deepmind"):
        HD95("itk")
    with pytest.raises(UserError, match="2 or 3 axes, not of 4"):
        hd95(*np.ones((2, 3, 3, 4, 4)), "deepmind", None)
