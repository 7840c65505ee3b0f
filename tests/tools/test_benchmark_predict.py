"""benchmark.py predict: every model gives its masks, which are compared."""

from pathlib import Path

import pytest
import SimpleITK as sitk  # noqa: N813

import benchmark
from medseg_kd.inference.exporting import export
from tests.inference.saved import write_checkpoint
from tests.inference.test_predictor import CT, scan, truth, write


def test_it_compares_a_checkpoint_with_its_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, weights = write_checkpoint(tmp_path / "iter_1.pth", CT), tmp_path / "model.safetensors"
    export(path, weights)
    (tmp_path / "labels").mkdir()
    source = write(sitk.DICOMOrient(scan(), "LPS"), tmp_path / "a.nii.gz")
    write(sitk.GetImageFromArray(truth(sitk.ReadImage(str(source)))), tmp_path / "labels/a.nii.gz")
    labels = str(tmp_path / "labels")
    benchmark.main(["predict", str(source), "--models", str(path), str(weights), "--labels", labels])
    said = capsys.readouterr().out
    assert "1 volumes, 120 voxels" in said and said.count("0.0e+00 | 100.00 |") == 2
