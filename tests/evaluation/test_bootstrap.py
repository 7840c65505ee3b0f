"""Intervals of means: those of SciPy's bootstrap, whatever is missing."""

import math

import numpy as np
import pytest
from scipy import stats

from medseg_kd.evaluation.bootstrap import CAUTION, bootstrap
from medseg_kd.evaluation.summary import summarise


def test_equals_scipy_up_to_the_draw() -> None:
    values = np.random.default_rng(0).normal(90, 5, (30, 3))
    organs = bootstrap(values, seed=1)
    for column, interval in zip((*values.T, values.mean(axis=1)), organs, strict=True):
        drawn = stats.bootstrap((column,), np.mean, method="percentile", random_state=0).confidence_interval
        assert interval == pytest.approx((drawn.low, drawn.high), abs=0.1)
    assert bootstrap(values, seed=1) == organs != bootstrap(values, seed=2)


def test_what_is_no_number_is_left_out() -> None:
    values = np.array([[1.0, math.nan, math.nan], [1.0, 3.0, math.nan], [1.0, 5.0, math.nan]])
    first, second, third, mean = bootstrap(values, seed=0)
    assert first == (1.0, 1.0) and second == (3.0, 5.0)
    assert all(map(math.isnan, third))
    assert mean == (1.0, 3.0)  # one draw of 27 has no case of the second: its mean is that of the first


def test_a_summary_has_them_when_asked_and_says_how() -> None:
    cases = [(name, {1: {"dice": value, "status": "ok"}}) for name, value in (("a", 0.5), ("b", 0.9))]
    assert summarise("strict", "mm", cases, ["liver"], ["Dice"]).interval_lines == []
    found = summarise("strict", "mm", cases, ["liver"], ["Dice"], seed=3)
    assert found.intervals["Dice"] == {"liver": (50.0, 90.0), "mean": (50.0, 90.0)}
    first, second, last = found.interval_lines
    assert first == "95% interval of the mean: Dice 50.00 to 90.00"
    assert "9999 samples, percentile method, seed 3" in second and last == CAUTION
    assert not summarise("strict", "mm", cases[:1], ["liver"], ["Dice"], seed=3).intervals
    many = summarise("strict", "mm", cases * 25, ["liver"], ["Dice"], seed=3)
    assert len(many.interval_lines) == 2
