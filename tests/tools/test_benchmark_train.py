"""The benchmark of whole steps runs, and its rows belong together."""

import re
from pathlib import Path

import pytest

import benchmark
import benchmark_distill
import benchmark_train
from medseg_kd.datasets.phantom import write_phantom

CONFIG = """
from mmengine.config import read_base

with read_base():
    from .configs.unet.unet_r18v1c_d8_40k_synapse import *

from tests.engine.tiny import TinyNet

model.network = dict(type=TinyNet)
model.output_weights = (1.0,)
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "configs").symlink_to(Path(__file__).parents[2] / "configs")
    (tmp_path / "tiny.py").write_text(CONFIG)
    return tmp_path / "tiny.py"


def test_all_is_one_file(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr(benchmark_distill, "_run", lambda given: print("distilled", given.size, given.amp))
    monkeypatch.setattr(benchmark_train, "_run", lambda given: print("trained", given.configs, given.float32))
    small = "--size 64 --iterations 1 --repeat 1"
    benchmark.main(f"all --configs {config} {small} --out {tmp_path}/speed.md".split())
    written = (tmp_path / "speed.md").read_text()
    assert re.findall("## benchmark.py (\\w+)", written) == ["train", "train", "distill", "distill", "data"]
    assert f"trained ['{config}'] True" in written and "distilled [64, 64] True" in written
    assert written.count("slice from the cache") == 1
    said = capsys.readouterr().out
    assert all(line in said for line in written.splitlines() if line.startswith("|"))


def test_steps_are_timed_in_turn(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_phantom(tmp_path / "data", cases=2, test_cases=1, slices=4, size=64)
    benchmark.main(f"train --configs {config} --data-root {tmp_path}/data --iterations 2 --blocks 2 --float32".split())
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    rows = [re.split(r"\s*\|\s*", line)[1:-1] for line in table[1:]]
    assert table[0].startswith("| tiny ")
    assert [row[0] for row in rows] == ["train.py", "bare loop, tensors on the device", "MMSegmentation's recipe"]
    times, of_recipe, of_bare = ([float(row[column]) for row in rows] for column in (1, 4, 5))
    assert of_recipe == pytest.approx([times[2] / each for each in times], abs=0.02)
    assert of_bare == pytest.approx([times[1] / each for each in times], abs=0.02)
