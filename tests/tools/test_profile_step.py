"""The profile of a step runs, and its parts are those of the step."""

import json
import re
from pathlib import Path

import pytest

import profile_step
from medseg_kd.datasets.phantom import write_phantom
from tests.tools.test_benchmark_train import CONFIG

DISTILL = """
from mmengine.config import read_base

with read_base():
    from .tiny import *

from medseg_kd.distill import KD, SingleTeacherDistill

model = dict(type=SingleTeacherDistill, architecture=model, teacher=model, distiller=dict(type=KD))
"""


def test_all_parts_of_a_distillation_step_are_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "configs").symlink_to(Path(__file__).parents[2] / "configs")
    (tmp_path / "tiny.py").write_text(CONFIG)
    (tmp_path / "pair.py").write_text(DISTILL)
    write_phantom(tmp_path / "data", cases=2, test_cases=1, slices=4, size=64)
    profile_step.main(
        f"{tmp_path}/pair.py --data-root {tmp_path}/data --iterations 2 --trace {tmp_path}/t.json".split()
    )
    out = capsys.readouterr().out
    rows = dict(re.findall(r"^\|\s+([a-z ]+?) \|\s+([0-9.]+) \|", out, re.MULTILINE))
    parts = "data wait|augmentation|teacher|student|losses|backward|optimizer|hooks and log"
    assert "|".join(sorted(rows)) == "|".join(sorted(parts.split("|")))
    total, images, megapixels = map(
        float, re.search(r"^([\d.]+) ms, ([\d.]+) images/s, ([\d.]+) Mpx/s", out, re.M).groups()
    )
    assert sum(map(float, rows.values())) == pytest.approx(total, abs=0.1)
    assert images == pytest.approx(2e3 / total, rel=0.02)
    assert megapixels == pytest.approx(2 * 64 * 64 / total / 1e3, abs=0.01)
    assert json.loads((tmp_path / "t.json").read_text())["traceEvents"]
