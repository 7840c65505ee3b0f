"""Trainings are scored as they go on, and what they took to a score is told."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import benchmark
from benchmark_dice import Course
from medseg_kd.datasets.phantom import write_phantom
from tests.tools.test_benchmark_train import CONFIG


def test_both_recipes_train_and_are_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "configs").symlink_to(Path(__file__).parents[2] / "configs")
    (tmp_path / "tiny.py").write_text(CONFIG)
    write_phantom(tmp_path / "data", cases=2, test_cases=1, slices=4, size=64)
    command = f"dice {tmp_path}/tiny.py --data-root {tmp_path}/data --seeds 0 --iterations 5 --every 2 --rotate 1"
    benchmark.main([*command.split(), "--target", "0"])
    out = capsys.readouterr().out
    for kind in ("train.py", "MMSegmentation's recipe"):
        assert f"seed 0, {kind}: Dice 2: " in out
        (row,) = (line for line in out.splitlines() if line.startswith(f"| {kind} "))
        assert "1 of 1" in row and "|          2 |" in row


def test_the_first_score_that_reaches_the_target_counts() -> None:
    weight = torch.ones(2, 3, requires_grad=True)
    done: list[int] = []
    course = Course(
        SimpleNamespace(), lambda steps: (done.append(steps), (weight @ weight.T).sum())[0], (), torch.device("cpu")
    )
    scores = iter([10.0, 70.0, 65.0])
    course._dice = lambda: next(scores)  # type: ignore[method-assign]
    course.run(9, 3, first=3)
    assert done == [1, 2, 3, 3]
    assert [(each[0], each[3]) for each in course.scores] == [(3, 10.0), (6, 70.0), (9, 65.0)]
    assert course.reached(70)[0] == 6 and course.reached(71) is None
    assert course.tflop == 2 * 2 * 2 * 3 / 1e12
