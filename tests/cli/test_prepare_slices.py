import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medseg_kd.cli.prepare_slices import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """One patient with the classes 0, 1 and 2."""
    for folder, array in (
        ("images", np.arange(24, dtype=np.int16).reshape(2, 3, 4)),
        ("labels", np.arange(24, dtype=np.uint8).reshape(2, 3, 4) % 3),
    ):
        (tmp_path / folder).mkdir()
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / folder / "pt_1.nii.gz"))
    return tmp_path


def _arguments(source: Path, split: str, *more: str) -> list[str]:
    paths = [f"--{name}={source / name}" for name in ("images", "labels", "out")]
    return [*paths, "--split", split, "--window", "-160", "240", *more]


def test_one_call_for_each_split(source: Path, capsys: pytest.CaptureFixture[str]):
    main(_arguments(source, "train", "--classes", "brainstem", "spinal cord"))
    main(_arguments(source, "test"))
    manifest = json.loads((source / "out" / "manifest.json").read_text())
    assert manifest["classes"] == ["background", "brainstem", "spinal cord"]
    assert set(manifest["splits"]) == {"train", "test"}
    output = capsys.readouterr().out
    assert "spinal cord: 8 voxels in 1 cases" in output
    assert "in two splits" in output


def test_a_class_that_is_nowhere_is_pointed_at(source: Path, capsys: pytest.CaptureFixture[str]):
    main(_arguments(source, "train", "--label-map", "totalsegmentator"))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].strip() for line in lines if "<- nowhere" in line] == [
        "aorta",
        "gallbladder",
        "left kidney",
        "liver",
        "pancreas",
        "stomach",
    ]


def test_an_error_is_one_message_and_exit_code_2(source: Path):
    (source / "labels" / "pt_1.nii.gz").rename(source / "labels" / "pt_2.nii.gz")
    command = [sys.executable, "tools/prepare_slices.py", *_arguments(source, "train")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no label" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (source / "out").exists()
