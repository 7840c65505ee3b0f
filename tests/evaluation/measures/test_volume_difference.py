"""Volume differences: by hand, and MedPy's with its sign."""

import math

import numpy as np
import pytest
from medpy.metric import binary as medpy

from medseg_kd.errors import UserError
from medseg_kd.evaluation import score_case

SPACING = (5.0, 2.0, 1.0)
BOTH = ("RAVD", "AVD")


def volumes() -> tuple[np.ndarray, np.ndarray]:
    """Organ 1: 6 of 8 voxels; 2: 8 voxels missed; 3: 4 invented; 4 nowhere; 5: 12 of 8 voxels."""
    pred, truth = np.zeros((2, 2, 6, 4), np.uint8)
    truth[:, 0], pred[:, 1, :3] = 1, 1
    truth[:, 2] = 2
    pred[:, 3, :2] = 3
    truth[:, 4], pred[:, 4] = 5, 5
    pred[:, 5, :2] = 5
    return pred, truth


def test_by_hand() -> None:
    pred, truth = volumes()
    scores = score_case(pred, truth, 6, SPACING, "strict", BOTH)
    ravd, avd = ([score[key] for score in scores.values()] for key in ("ravd", "avd"))
    np.testing.assert_allclose(ravd, [0.25, 1.0, math.nan, math.nan, 0.5])
    np.testing.assert_allclose(avd, [0.02, 0.08, 0.04, math.nan, 0.04])  # a voxel is 10 mm3
    scores = score_case(pred, truth, 6, SPACING, "transunet", BOTH)
    assert [score["ravd"] for score in scores.values()] == [0.25, 1.0, 0.0, 0.0, 0.5]
    np.testing.assert_allclose([score["avd"] for score in scores.values()], [0.02, 0.08, 0.04, 0.0, 0.04])


def test_medpy_without_its_sign() -> None:
    pred, truth = volumes()
    scores = score_case(pred, truth, 6, metrics=["RAVD"])
    assert medpy.ravd(pred == 1, truth == 1) == -0.25
    for organ in (1, 5):
        assert scores[organ]["ravd"] == pytest.approx(abs(medpy.ravd(pred == organ, truth == organ)))


def test_no_surface_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medseg_kd.evaluation.case._surfaces_by_class", None)
    score_case(*volumes(), 6, SPACING, metrics=BOTH)


def test_millilitres_need_the_spacing() -> None:
    with pytest.raises(UserError, match="case a: AVD is measured in mm, but the case has no spacing"):
        score_case(*volumes(), 6, metrics=["AVD"], case="a")
