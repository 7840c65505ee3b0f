"""Predictions as NIfTI files that lie on what the case was made from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch

from medseg_kd.errors import UserError
from medseg_kd.evaluation import predictions
from medseg_kd.evaluation.predictions import PredictionWriter


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(predictions, "print_log", lambda text, logger: lines.append(text))
    return lines


def labels() -> np.ndarray:
    """A volume (3, 4, 5) that no flip or turn leaves as it is."""
    return (np.arange(60, dtype=np.uint8) % 9).reshape(3, 4, 5)


def case(name: str, volume: np.ndarray, **meta: Any) -> dict[str, Any]:
    return {"case_name": name, "pred_sem_seg": {"data": torch.from_numpy(volume)}, **meta}


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "PIR"])
def test_a_prediction_lies_on_the_file_that_the_case_was_prepared_from(
    orientation: str, tmp_path: Path, printed: list[str]
) -> None:
    """Also when its axes are other and oblique."""
    tilt = sitk.Euler3DTransform((0, 0, 0), 0.2, -0.1, 0.15).GetMatrix()
    oblique = sitk.GetImageFromArray(labels())
    oblique.SetSpacing((0.7, 0.8, 3.0))
    oblique.SetOrigin((-100.0, 20.5, 300.25))
    oblique.SetDirection(tilt)
    source = sitk.DICOMOrient(oblique, orientation)
    prepared = sitk.DICOMOrient(source, "LPS")
    geometry = {"origin": prepared.GetOrigin(), "direction": prepared.GetDirection(), "orientation": orientation}
    writer = PredictionWriter(str(tmp_path))
    volume = sitk.GetArrayFromImage(prepared)
    writer.process(None, [case("a", volume, spacing=prepared.GetSpacing()[::-1], geometry=geometry)])
    assert writer.evaluate(1) == {}
    assert printed == [f"1 prediction(s) are in {tmp_path}"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii.gz"]
    written = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    assert written.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), sitk.GetArrayFromImage(source))
    for name in ("Spacing", "Origin", "Direction"):
        expected = getattr(source, f"Get{name}")()
        np.testing.assert_allclose(getattr(written, f"Get{name}")(), expected, rtol=1e-5, atol=1e-5)


def test_what_the_data_do_not_tell_is_said(tmp_path: Path, printed: list[str]) -> None:
    writer = PredictionWriter(str(tmp_path))
    writer.process(None, [case("a", labels(), spacing=(3.0, 0.8, 0.7), geometry=None)])
    writer.process(None, [case("b", labels())])
    writer.evaluate(2)
    (line,) = printed
    assert line.startswith(f"2 prediction(s) are in {tmp_path}; the data tell no spacing of b: written with 1 mm; ")
    assert line.endswith("the data tell no geometry of a, b: written with origin (0, 0, 0) and LPS axes")
    spacings = [sitk.ReadImage(str(tmp_path / f"{name}.nii.gz")).GetSpacing() for name in "ab"]
    np.testing.assert_allclose(spacings, [(0.7, 0.8, 3.0), (1, 1, 1)], rtol=1e-6)


def test_mistakes_are_named_and_leave_no_file(tmp_path: Path) -> None:
    bad = {"origin": (0.0, 0.0), "direction": (1.0,), "orientation": None}
    with pytest.raises(UserError, match=r"case a: .*geometry .* cannot be written"):
        PredictionWriter(str(tmp_path)).process(None, [case("a", labels(), geometry=bad)])
    (tmp_path / "a.nii.gz").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*a\.nii\.gz: "):
        PredictionWriter(str(tmp_path)).process(None, [case("a", labels())])
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii.gz"]
