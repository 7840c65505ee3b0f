"""The benchmark of whole steps runs, and its rows belong together."""

import re
from pathlib import Path

import pytest

import benchmark
from medseg_kd.datasets.phantom import write_phantom

CONFIG = """
from mmengine.config import read_base

with read_base():
    from .configs.unet.unet_r18v1c_d8_40k_synapse import *

from tests.engine.tiny import TinyNet

model.network = dict(type=TinyNet)
model.output_weights = (1.0,)
"""


def test_steps_are_timed_in_turn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "configs").symlink_to(Path(__file__).parents[2] / "configs")
    (tmp_path / "tiny.py").write_text(CONFIG)
    write_phantom(tmp_path / "data", cases=2, test_cases=1, slices=4, size=64)
    benchmark.main(
        f"train --configs {tmp_path}/tiny.py --data-root {tmp_path}/data --iterations 2 --blocks 2 --float32".split()
    )
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    rows = [re.split(r"\s*\|\s*", line)[1:-1] for line in table[1:]]
    assert table[0].startswith("| tiny ")
    assert [row[0] for row in rows] == ["train.py", "bare loop, tensors on the device", "MMSegmentation's recipe"]
    times, of_recipe, of_bare = ([float(row[column]) for row in rows] for column in (1, 4, 5))
    assert of_recipe == pytest.approx([times[2] / each for each in times], abs=0.02)
    assert of_bare == pytest.approx([times[1] / each for each in times], abs=0.02)
