"""Normalised surface Dice: worked out by hand, as MONAI gives it, and beside the area-weighted definition."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_surface_dice

from medseg_kd.errors import UserError
from medseg_kd.evaluation import measure_case, score_case
from medseg_kd.evaluation.measures.surface_distance import NSD

SPACING = (3.0, 0.76, 0.76)


def nsd(pred: np.ndarray, truth: np.ndarray, tolerance: object, spacing: object = (1.0, 1.0, 1.0), **options) -> float:
    return score_case(pred, truth, 2, spacing, "strict", [NSD(tolerance, **options)])[1]["nsd"]


def monai(pred: np.ndarray, truth: np.ndarray, tolerance: float, spacing: object, subvoxels: bool = False) -> float:
    pair = (torch.from_numpy(mask)[None, None].float() for mask in (pred, truth))
    found = compute_surface_dice(*pair, [tolerance], include_background=True, spacing=spacing, use_subvoxels=subvoxels)
    return float(found)


def balls() -> tuple[np.ndarray, np.ndarray]:
    """Three balls of 4 to 7 voxels in an array of (16, 48, 48), and the same moved and one of them smaller."""
    grid = np.ogrid[:16, :48, :48]
    volumes = np.zeros((2, 16, 48, 48), np.uint8)
    for organ, centre in enumerate([(8, 12, 12), (8, 12, 34), (8, 34, 20)], start=1):
        for volume, shift in zip(volumes, (1, 0), strict=True):
            distance = sum((axis - at - shift) ** 2 for axis, at in zip(grid, centre, strict=True))
            volume[distance < (3 + organ + (organ == 2) * shift) ** 2] = organ
    return volumes[0], volumes[1]


def row(*voxels: int) -> np.ndarray:
    """A line of voxels along the last axis."""
    labels = np.zeros((1, 1, 10), np.uint8)
    labels[0, 0, list(voxels)] = 1
    return labels


def test_by_hand() -> None:
    """P is 0 1 2 3, T is 2 3 4 5 6: all are surface. Of P, 2 and 3 are at 0, 1 at 1, 0 at 2; of T, 4 to 6 at 1 to 3."""
    pred, truth = row(0, 1, 2, 3), row(2, 3, 4, 5, 6)
    for tolerance, within in ((0, 4), (0.9, 4), (1, 6), (2, 8), (2.9, 8), (3, 9)):
        assert nsd(pred, truth, tolerance) == pytest.approx(within / 9)
    assert nsd(pred, truth, 1, spacing=(1, 1, 0.5)) == pytest.approx(8 / 9)
    assert nsd(pred, truth, 1, spacing=(1, 1, 0.5), measured_in="voxel") == pytest.approx(6 / 9)


def test_inner_voxels_are_no_surface() -> None:
    """A cube of 5 and the cube of 3 in its middle: 98 and 26 surface voxels, the nearest at 1, corners at sqrt(3)."""
    truth, pred = np.zeros((2, 9, 9, 9), np.uint8)
    truth[2:7, 2:7, 2:7] = pred[3:6, 3:6, 3:6] = 1
    assert nsd(pred, truth, 0) == 0
    faces, edges = 6 * 9, 12 * 3
    assert nsd(pred, truth, 1) == pytest.approx((26 + faces) / 124)
    assert nsd(pred, truth, 1.5) == pytest.approx((26 + faces + edges) / 124)
    assert nsd(pred, truth, 1.8) == 1


def test_exactly_the_tolerance_is_within_wherever_the_organ_lies() -> None:
    for at in range(8):
        assert nsd(row(at), row(at + 1), 0.76, SPACING) == 1
        assert nsd(row(at), row(at + 1), 0.7599, SPACING) == 0


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.floats(0.3, 4.0), st.sampled_from([(1.0, 1.0, 1.0), SPACING]))
def test_equals_monai(seed: int, tolerance: float, spacing: tuple[float, ...]) -> None:
    rng = np.random.default_rng(seed)
    pred, truth = (np.uint8(rng.random((4, 9, 8)) < rng.uniform(0.02, 0.9)) for _ in range(2))
    pred[1, 2, 3] = truth[2, 3, 3] = 1
    assert nsd(pred, truth, tolerance, spacing) == pytest.approx(monai(pred, truth, tolerance, spacing), abs=1e-6)


def test_beside_the_definition_with_areas() -> None:
    """DeepMind's surface lies between the voxels: near, and above on smooth organs; docs/evaluation.md says how far."""
    pred, truth = balls()
    for tolerance, most in ((1.0, 0.2), (2.0, 0.1), (3.0, 0.07)):
        scores = score_case(pred, truth, 4, SPACING, "strict", [NSD(tolerance)])
        for organ in (1, 2, 3):
            weighted = monai(pred == organ, truth == organ, tolerance, SPACING, subvoxels=True)
            assert -0.01 < weighted - scores[organ]["nsd"] < most


def test_absent_organs_are_worth_what_they_are_for_dice() -> None:
    pred, truth = np.zeros((2, 2, 4, 4), np.uint8)
    truth[:, 0, 0], pred[:, 1, 1] = 1, 2
    for protocol in ("transunet", "strict"):
        scores = score_case(pred, truth, 4, SPACING, protocol, ["Dice", NSD(1)])
        np.testing.assert_equal([s["nsd"] for s in scores.values()], [s["dice"] for s in scores.values()])


def test_millimetres_under_both_protocols() -> None:
    pred, truth = balls()
    measured = measure_case(pred, truth, 4, {"voxel": None, "mm": SPACING}, ["HD95", NSD(2)])
    voxels, mm = measured.score("transunet", "voxel"), measured.score("strict", "mm")
    for organ in (1, 2, 3):
        assert voxels[organ]["nsd"] == mm[organ]["nsd"] == nsd(pred == organ, truth == organ, 2, SPACING)
        assert voxels[organ]["hd95"] != mm[organ]["hd95"]


def test_a_tolerance_for_each_organ() -> None:
    pred, truth = np.concatenate([row(1), 2 * row(1)]), np.concatenate([row(3), 2 * row(3)])
    names, options = ("background", "liver", "spleen"), {"liver": 2, "spleen": 1, "aorta": 5}
    scores = score_case(pred, truth, 3, 1.0, "strict", [dict(type="NSD", tolerance=options)], names=names)
    assert [scores[organ]["nsd"] for organ in (1, 2)] == [1.0, 0.0]


def test_mistakes_are_named() -> None:
    pred = row(1)
    with pytest.raises(UserError, match=r"case a: NSD \(within 2 mm\) is measured in mm, but the case has no spacing"):
        score_case(pred, pred, 2, metrics=[NSD(2)], case="a")
    with pytest.raises(UserError, match="NSD: tolerance has no spleen: expected all of liver, spleen"):
        score_case(pred, pred, 3, 1.0, metrics=[NSD({"liver": 1})], names=("background", "liver", "spleen"))
    with pytest.raises(UserError, match="measure NSD: NSD: missing a required argument: 'tolerance'"):
        score_case(pred, pred, 2, metrics=["nsd"])
    for tolerance in (-1, math.nan, math.inf, "2", {"liver": -1}):
        with pytest.raises(UserError, match="expected 0 or more"):
            NSD(tolerance)
    with pytest.raises(UserError, match="measured_in='cm': expected mm or voxel"):
        NSD(1, measured_in="cm")
