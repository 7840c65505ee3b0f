"""tools/export.py: what it writes and says."""

from pathlib import Path

import pytest

from medseg_kd.cli.export import main
from tests.cli.commands import fail
from tests.inference.saved import write_checkpoint
from tests.inference.test_predictor import CT, scan, write


def test_it_says_what_it_compared_and_where_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = write_checkpoint(tmp_path / "iter_1.pth", CT), tmp_path / "out/model.safetensors"
    main([str(path), str(out), "--cases", str(write(scan(), tmp_path / "scan.nii.gz"))])
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said] == [
        "logits of noise",
        "labels of the given cases",
        f"written to {out}",
    ]
    assert "0.0e+00 of 120 voxels differ, Dice 1.000000" in said[1] and out.is_file()


def test_a_mistake_gets_one_message(tmp_path: Path) -> None:
    assert "missing is not there" in fail("tools/export.py", "missing", "model.onnx", cwd=tmp_path)
