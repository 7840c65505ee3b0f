"""The boolean functions against MedPy, element by element."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from medpy.metric import binary as medpy

from medseg_kd.evaluation import asd, dice, hd95, jaccard, surface_distances

TOLERANCE = 1e-6


def medpy_surface_distances(pred: np.ndarray, truth: np.ndarray, spacing: object) -> np.ndarray:
    return getattr(medpy, "__surface_distances")(pred, truth, spacing, 1)


def assert_equals_medpy(pred: np.ndarray, truth: np.ndarray, spacing: object = None) -> None:
    assert dice(pred, truth) == pytest.approx(medpy.dc(pred, truth), abs=TOLERANCE)
    assert jaccard(pred, truth) == pytest.approx(medpy.jc(pred, truth), abs=TOLERANCE)
    assert hd95(pred, truth, spacing) == pytest.approx(medpy.hd95(pred, truth, spacing), abs=TOLERANCE)
    assert asd(pred, truth, spacing) == pytest.approx(medpy.asd(pred, truth, spacing), abs=TOLERANCE)
    ours, theirs = surface_distances(pred, truth, spacing), medpy_surface_distances(pred, truth, spacing)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)


def ball(shape: tuple[int, ...], centre: tuple[float, ...], radius: float) -> np.ndarray:
    grid = np.ogrid[tuple(slice(n) for n in shape)]
    return sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) <= radius**2


def slab(*bounds: tuple[int, int], shape: tuple[int, ...] = (12, 14, 16)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(*b) for b in bounds)] = True
    return mask


BIG = (12, 14, 16)
SHAPES = {
    "equal": (ball(BIG, (6, 7, 8), 4), ball(BIG, (6, 7, 8), 4)),
    "overlapping": (ball(BIG, (6, 7, 8), 4), ball(BIG, (5, 8, 9), 4)),
    "touching": (slab((2, 6), (3, 9), (4, 8)), slab((6, 9), (3, 9), (4, 8))),
    "nested": (ball(BIG, (6, 7, 8), 2), ball(BIG, (6, 7, 8), 5)),
    "one voxel each": (slab((1, 2), (2, 3), (3, 4)), slab((9, 10), (12, 13), (15, 16))),
    "one voxel in a ball": (slab((6, 7), (7, 8), (8, 9)), ball(BIG, (6, 7, 8), 5)),
    "at the border": (slab((0, 5), (0, 5), (0, 5)), slab((0, 12), (0, 3), (10, 16))),
    "the whole volume": (slab((0, 12), (0, 14), (0, 16)), ball(BIG, (6, 7, 8), 3)),
    "disjoint": (ball(BIG, (2, 3, 3), 2), ball(BIG, (9, 10, 12), 2)),
    "two parts": (ball(BIG, (2, 3, 3), 2) | ball(BIG, (9, 10, 12), 2), ball(BIG, (2, 3, 4), 2)),
    "one slice": (ball((1, 14, 16), (0, 7, 8), 4), ball((1, 14, 16), (0, 5, 8), 3)),
    "two axes": (ball((14, 16), (7, 8), 4), ball((14, 16), (5, 8), 3)),
    "one axis": (ball((14,), (7,), 4), ball((14,), (3,), 2)),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("spaced", [False, True])
def test_equals_medpy(name: str, spaced: bool) -> None:
    pred, truth = SHAPES[name]
    spacing = (3.0, 0.76, 0.81)[-pred.ndim :] if spaced else None
    assert_equals_medpy(pred, truth, spacing)
    assert_equals_medpy(truth, pred, spacing)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, object]:
    """Noise of any density, boxes and single voxels, in volumes of up to 9 voxels along each of 1 to 3 axes."""
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    masks = []
    for _ in range(2):
        kind = draw(st.sampled_from(["noise", "box", "voxel", "box with noise"]))
        mask = np.zeros(shape, dtype=bool)
        if "box" in kind:
            low = [int(rng.integers(n)) for n in shape]
            high = [int(rng.integers(a, n)) + 1 for a, n in zip(low, shape, strict=True)]
            mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
        if "noise" in kind:
            mask ^= rng.random(shape) < draw(st.sampled_from([0.02, 0.2, 0.5, 0.9]))
        if not mask.any():
            mask[tuple(int(rng.integers(n)) for n in shape)] = True
        masks.append(mask)
    voxel = st.floats(0.05, 20.0)
    sizes = st.lists(voxel, min_size=len(shape), max_size=len(shape)).map(tuple)
    return masks[0], masks[1], draw(st.one_of(st.none(), voxel, sizes))


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(pairs())
def test_random_pairs_equal_medpy(pair: tuple[np.ndarray, np.ndarray, object]) -> None:
    assert_equals_medpy(*pair)


def test_distances_are_directed() -> None:
    small, large = SHAPES["nested"]
    assert asd(small, large) != pytest.approx(asd(large, small), abs=1e-3)
    assert len(surface_distances(small, large)) < len(surface_distances(large, small))


def test_distance_by_hand() -> None:
    pred, truth = slab((0, 1), (0, 1), (0, 1)), slab((2, 3), (1, 2), (0, 1))
    assert hd95(pred, truth) == pytest.approx(5**0.5)
    assert asd(pred, truth, spacing=(2.0, 3.0, 1.0)) == pytest.approx(5.0)


@pytest.mark.parametrize("function", [hd95, asd, surface_distances])
def test_empty_object_is_refused(function) -> None:
    full, empty = np.ones((2, 3), dtype=bool), np.zeros((2, 3), dtype=bool)
    with pytest.raises(ValueError, match="pred is empty"):
        function(empty, full)
    with pytest.raises(ValueError, match="truth is empty"):
        function(full, empty)


def test_two_empty_objects_have_no_overlap_score() -> None:
    empty = np.zeros((2, 3), dtype=bool)
    assert np.isnan(dice(empty, empty))
    assert np.isnan(jaccard(empty, empty))


def test_one_empty_object_overlaps_nothing() -> None:
    full, empty = np.ones((2, 3), dtype=bool), np.zeros((2, 3), dtype=bool)
    assert dice(full, empty) == dice(empty, full) == jaccard(full, empty) == jaccard(empty, full) == 0.0


@pytest.mark.parametrize("function", [dice, jaccard, hd95, asd, surface_distances])
def test_shapes_must_agree(function) -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\) and truth \(3, 2\)"):
        function(np.ones((2, 3), dtype=bool), np.ones((3, 2), dtype=bool))


@pytest.mark.parametrize("spacing", [(1.0, 2.0), 0.0, (1.0, 1.0, -1.0), float("nan"), (1.0, 1.0, float("inf"))])
def test_spacing_must_be_one_positive_number_per_axis(spacing: object) -> None:
    mask = np.ones((2, 3, 4), dtype=bool)
    with pytest.raises(ValueError, match="expected 3 positive numbers"):
        hd95(mask, mask, spacing)
