import subprocess
import sys
from pathlib import Path

import pytest

from medseg_kd.cli.make_phantom import main

ROOT = Path(__file__).parents[2]


def test_writes_what_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    main(["--out", str(tmp_path / "p"), "--cases", "1", "--test-cases", "1", "--slices", "4", "--size", "48"])
    assert len(list((tmp_path / "p" / "train_npz").iterdir())) == 4
    assert "--data-root" in capsys.readouterr().out


def test_a_wrong_number_is_one_line_and_exit_code_2(tmp_path: Path):
    command = [sys.executable, "tools/make_phantom.py", "--out", str(tmp_path / "p"), "--slices", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--slices 1" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "p").exists()
