"""OpenVINO gives what the checkpoint gives, or the model is refused."""

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medseg_kd.cli.predict import main as predict
from medseg_kd.errors import UserError, WriteError
from medseg_kd.inference import Predictor
from medseg_kd.inference.end_to_end import EndToEnd
from medseg_kd.inference.exporting import export
from medseg_kd.inference.loading import load_predictor
from medseg_kd.inference.openvino_session import load_openvino
from tests.inference.test_exporting import WINDOW, checkpoint, volume

pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")


def test_openvino(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = volume(tmp_path / "scan.nii.gz")
    path, out = checkpoint(tmp_path, *WINDOW, size_divisor=16), tmp_path / "out/model.v1.xml"
    assert "Dice 1.0" in export(path, out, [scan])[1]
    assert sorted(each.name for each in out.parent.iterdir()) == ["model.v1.bin", "model.v1.xml"]
    predict([str(out), str(scan), "--out", str(tmp_path / "masks")])
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "masks/scan.nii.gz")))
    np.testing.assert_array_equal(mask, Predictor.from_checkpoint(path, "cpu")(scan).labels)
    assert "openvino_telemetry.main" not in sys.modules
    with pytest.raises(UserError, match=r"--int8 for \.onnx"):
        export(path, out, int8=tmp_path)
    with pytest.raises(UserError, match="device 'cuda' cannot be used: OpenVINO has .*CPU"):
        load_predictor(out, "cuda")
    weights = out.with_suffix(".bin")
    known = weights.read_bytes()
    weights.write_bytes(known[:-1] + bytes([known[-1] ^ 1]))
    with pytest.raises(UserError, match=r"model.v1.bin has the weights of another model"):
        load_predictor(out)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match="OpenVINO is not installed. pip install openvino"):
        load_predictor(out)
    monkeypatch.undo()
    out.write_text("no graph")
    with pytest.raises(UserError, match="model.v1.xml cannot be read by OpenVINO"):
        load_predictor(out)


def test_another_openvino_model_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EndToEnd, "_logits", lambda self, x: 1.001 * self.segmentor(x))
    with pytest.raises(UserError, match="is not the checkpoint's, and was not written"):
        export(checkpoint(tmp_path, *WINDOW), tmp_path / "out/model.xml")
    assert not list((tmp_path / "out").iterdir())


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = checkpoint(tmp_path, *WINDOW)

    def full(model: object, draft: Path, **options: bool) -> None:
        draft.write_text("<net")
        draft.with_suffix(".bin").touch()

    monkeypatch.setattr(load_openvino(), "save_model", full)
    with pytest.raises(WriteError, match="OpenVINO model cannot be written: .* Free some disk space"):
        export(path, tmp_path / "out/model.xml")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("options", [{"size": (32, 48)}, {"data_preprocessor": {"size": (48, 40)}}], ids=str)
def test_resizing_is_refused(tmp_path: Path, options: dict) -> None:
    """At 101x122 pixels the first gives the same labels, at 64x96 others."""
    with pytest.raises(UserError, match=r"resizes its slices \(.*size\), for which OpenVINO lacks"):
        export(checkpoint(tmp_path, *WINDOW, **options), tmp_path / "out/model.xml")
    assert not list((tmp_path / "out").iterdir())
