"""Whole cases: every organ as MedPy scores it, the two protocols, and what is refused."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medpy.metric import binary as medpy

from medseg_kd.errors import UserError
from medseg_kd.evaluation import measure_case, score_case, surface

METRICS = ("dice", "jaccard", "hd95", "asd")


def medpy_scores(pred: np.ndarray, truth: np.ndarray, spacing: object = None) -> dict[str, float]:
    return {
        "dice": medpy.dc(pred, truth),
        "jaccard": medpy.jc(pred, truth),
        "hd95": medpy.hd95(pred, truth, spacing),
        "asd": medpy.asd(pred, truth, spacing),
    }


def volumes(seed: int = 0, shape: tuple[int, ...] = (15, 20, 24), organs: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of every organ that lie on and beside each other, and a prediction that is the truth moved and speckled."""
    rng = np.random.default_rng(seed)
    truth = np.zeros(shape, dtype=np.uint8)
    for organ in range(1, organs + 1):
        low = [int(rng.integers(0, max(1, n - n // 3))) for n in shape]
        truth[tuple(slice(a, a + max(1, n // 3)) for a, n in zip(low, shape, strict=True))] = organ
    pred = np.roll(truth, 1, axis=-1)
    speckle = rng.random(shape) < 0.02
    pred[speckle] = rng.integers(0, organs + 1, int(speckle.sum()))
    return pred, truth


def assert_equals_medpy(pred: np.ndarray, truth: np.ndarray, classes: int, spacing: object) -> None:
    for protocol, used in (("transunet", None), ("strict", spacing)):
        scores = score_case(pred, truth, classes, spacing, protocol, threads=1)
        for organ in range(1, classes):
            if (pred == organ).any() and (truth == organ).any():
                expected = medpy_scores(pred == organ, truth == organ, used)
                assert scores[organ]["status"] == "ok"
                assert {m: scores[organ][m] for m in METRICS} == pytest.approx(expected, abs=1e-6)
            else:
                assert scores[organ]["status"] != "ok"


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(1, 8), min_size=2, max_size=3).map(tuple),
    st.floats(0.1, 10.0),
    st.floats(0.1, 10.0),
)
def test_random_cases_equal_medpy(seed: int, shape: tuple[int, ...], first: float, last: float) -> None:
    pred, truth = volumes(seed, shape, organs=3)
    assert_equals_medpy(pred, truth, 4, (first, *[1.0] * (len(shape) - 2), last))


def test_slabs_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pred, truth = volumes()
    whole = score_case(pred, truth, 5)
    monkeypatch.setattr(surface, "SLAB_VOXELS", 1)
    assert len(list(surface.slabs(pred.shape))) == pred.shape[0]
    assert score_case(pred, truth, 5, threads=2) == whole
    assert_equals_medpy(pred, truth, 5, (3.0, 0.8, 0.8))


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint16])
def test_label_types_change_nothing(dtype: type) -> None:
    pred, truth = volumes()
    assert score_case(pred.astype(dtype), truth, 5) == score_case(pred, truth, 5)


def test_more_classes_than_a_byte_holds() -> None:
    pred, truth = (volume.astype(np.int32) * 100 for volume in volumes())
    scores = score_case(pred, truth, 401)
    small = score_case(pred // 100, truth // 100, 5)
    assert {organ * 100: small[organ] for organ in small} == {k: scores[k] for k in (100, 200, 300, 400)}


def test_volumes_are_left_alone_and_need_not_be_contiguous() -> None:
    pred, truth = (volume.transpose(2, 0, 1) for volume in volumes())
    before = pred.copy(), truth.copy()
    assert_equals_medpy(pred, truth, 5, (0.8, 3.0, 0.8))
    np.testing.assert_array_equal(pred, before[0])
    np.testing.assert_array_equal(truth, before[1])


def absent() -> tuple[np.ndarray, np.ndarray]:
    """Organ 1 in both, 2 only in the truth, 3 only in the prediction, 4 in neither."""
    pred, truth = np.zeros((2, 4, 6), dtype=np.uint8), np.zeros((2, 4, 6), dtype=np.uint8)
    pred[:, 0, :3] = truth[:, 0, 1:4] = 1
    truth[:, 2, :3] = 2
    pred[:, 2, 3:] = 3
    return pred, truth


def test_transunet_protocol() -> None:
    pred, truth = absent()
    scores = score_case(pred, truth, 5, spacing=(9.0, 9.0, 9.0), protocol="transunet")
    assert scores[1] == pytest.approx({**medpy_scores(pred == 1, truth == 1), "status": "ok"})
    assert scores[2] == {"dice": 0.0, "jaccard": 0.0, "hd95": 0.0, "asd": 0.0, "status": "missed"}
    assert scores[3] == {"dice": 1.0, "jaccard": 1.0, "hd95": 0.0, "asd": 0.0, "status": "false_alarm"}
    assert scores[4] == {"dice": 0.0, "jaccard": 0.0, "hd95": 0.0, "asd": 0.0, "status": "empty"}


def test_strict_protocol() -> None:
    pred, truth = absent()
    scores = score_case(pred, truth, 5, spacing=(9.0, 3.0, 2.0), protocol="strict")
    assert scores[1] == pytest.approx({**medpy_scores(pred == 1, truth == 1, (9.0, 3.0, 2.0)), "status": "ok"})
    for organ, status in ((2, "missed"), (3, "false_alarm")):
        assert scores[organ]["status"] == status
        assert scores[organ]["dice"] == scores[organ]["jaccard"] == 0.0
        assert math.isnan(scores[organ]["hd95"])
        assert math.isnan(scores[organ]["asd"])
    assert scores[4]["status"] == "empty"
    assert all(math.isnan(scores[4][metric]) for metric in METRICS)


@pytest.mark.parametrize("shape", [(2, 4, 6), (1, 4, 6), (4, 6)])
def test_a_case_without_any_organ(shape: tuple[int, ...]) -> None:
    empty = np.zeros(shape, dtype=np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [score["status"] for score in score_case(empty, empty, 3).values()] == ["empty", "empty"]


def test_metrics_by_choice() -> None:
    pred, truth = volumes()
    full = score_case(pred, truth, 5)
    for metrics in (("dice",), ("hd95",), ("asd",), ("jaccard", "asd")):
        chosen = score_case(pred, truth, 5, metrics=metrics)
        assert chosen == {k: {m: full[k][m] for m in (*metrics, "status")} for k in full}


def test_units_are_measured_from_one_search() -> None:
    pred, truth = volumes()
    spacing = (3.0, 0.8, 0.7)
    measure = measure_case(pred, truth, 5, {"voxel": None, "mm": spacing})
    assert measure.score("transunet", "voxel") == score_case(pred, truth, 5, spacing)
    assert measure.score("strict", "mm") == score_case(pred, truth, 5, spacing, "strict")


def test_label_outside_the_classes_is_refused() -> None:
    pred, truth = volumes()
    truth[0, 0, 0] = 9
    with pytest.raises(UserError, match=r"case0008: the ground truth holds the label values \[9\].*0\.\.4"):
        score_case(pred, truth, 5, case="case0008")
    with pytest.raises(UserError, match=r"the prediction holds the label values \[-1\]"):
        score_case(np.full((2, 2), -1), np.zeros((2, 2), dtype=np.uint8), 5)


def test_other_mistakes_are_refused() -> None:
    pred, truth = volumes()
    with pytest.raises(UserError, match=r"case a: the prediction has shape \(14, 20, 24\).*\(15, 20, 24\)"):
        score_case(pred[1:], truth, 5, case="a")
    with pytest.raises(UserError, match="data type float64"):
        score_case(pred.astype(float), truth, 5)
    with pytest.raises(UserError, match="case a: spacing="):
        score_case(pred, truth, 5, spacing=(1.0, 2.0), protocol="strict", case="a")
    with pytest.raises(UserError, match="protocol='loose'"):
        score_case(pred, truth, 5, protocol="loose")
    with pytest.raises(UserError, match="'kappa' is not known: expected ASD, AVD, Dice, HD95, Jaccard, NSD, RAVD"):
        score_case(pred, truth, 5, metrics=("dice", "kappa"))


def test_threads_follow_the_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    from medseg_kd.evaluation.case import available_threads

    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    alone = available_threads()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(2 * alone))
    assert alone >= 1
    assert available_threads() == 1
