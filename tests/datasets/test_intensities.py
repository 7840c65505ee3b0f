"""Intensity rules against arithmetic done by hand or by NumPy."""

import numpy as np
import pytest

from medseg_kd.datasets import RGB8, Channel, DataSpec, Percentiles, Stored, Window, ZScore
from medseg_kd.datasets.pixels import Raw, to_pixels
from medseg_kd.errors import UserError

VALUES = np.random.default_rng(0).integers(-1000, 1000, (3, 8, 9)).astype(np.int16)


def test_window() -> None:
    out = Window(-100, 300)(VALUES)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, (np.clip(VALUES, -100, 300) + 100) / 400, atol=1e-7)
    with pytest.raises(UserError, match="lie outside the window 2000 3000"):
        Window(2000, 3000)(VALUES)


def test_z_score() -> None:
    out = ZScore()(VALUES)
    np.testing.assert_allclose(out, (VALUES - VALUES.mean(dtype=float)) / VALUES.std(dtype=float), atol=1e-5)
    assert np.array_equal(ZScore()(np.full((2, 3), 7)), np.zeros((2, 3)))


def test_z_score_of_what_is_not_zero() -> None:
    values = VALUES.copy()
    values[:, :4] = 0
    out = ZScore(nonzero=True)(values)
    inside = values != 0
    assert (out[~inside] == 0).all()
    np.testing.assert_allclose((out[inside].mean(), out[inside].std()), (0, 1), atol=1e-5)
    assert np.array_equal(ZScore(nonzero=True)(np.zeros((2, 3))), np.zeros((2, 3)))


def test_percentiles() -> None:
    low, high = np.percentile(VALUES, (2, 98))
    np.testing.assert_allclose(Percentiles(2, 98)(VALUES), (np.clip(VALUES, low, high) - low) / (high - low), atol=1e-5)
    assert np.array_equal(Percentiles()(np.full((2, 3), 7)), np.zeros((2, 3)))
    with pytest.raises(UserError, match="percentiles 90 and 10"):
        Percentiles(90, 10)


def test_bytes() -> None:
    values = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(RGB8()(values), values.astype(np.float32) / np.float32(255))
    with pytest.raises(UserError, match=r"pixels are uint16.*Window"):
        RGB8()(values.astype(np.uint16))


def test_stored_values_stay() -> None:
    assert np.array_equal(Stored()(VALUES), VALUES.astype(np.float32))


@pytest.mark.parametrize("rule", [ZScore(), Percentiles()], ids=["z-score", "percentiles"])
def test_values_that_float32_does_not_hold(rule: ZScore | Percentiles) -> None:
    values = np.linspace(-1, 1, 24).reshape(2, 3, 4) * 1e300
    with pytest.raises(UserError, match=r"case, channel MR: values of up to 1e\+300 are too large for float32"):
        to_pixels(Raw(values), DataSpec((Channel("MR", rule),), ("background", "a")), 3, "case")


def test_stored_values_beside_other_rules() -> None:
    """Only the stored channel must lie in [0, 1]; nnU-Net's noNorm beside its z-scores."""
    spec = DataSpec((Channel("T1", ZScore()), Channel("prior", Stored())), ("background", "a"))
    prior = np.linspace(0, 1, VALUES.size).reshape(VALUES.shape)
    image = to_pixels(Raw(np.stack([VALUES, prior]), None), spec, 3, "case").image
    np.testing.assert_allclose(image[:, 1], prior, atol=1e-7)
    assert image[:, 0].min() < -1
    with pytest.raises(UserError, match=r"case, channel prior: intensities lie in \[0, 2\]"):
        to_pixels(Raw(np.stack([VALUES, 2 * prior]), None), spec, 3, "case")
