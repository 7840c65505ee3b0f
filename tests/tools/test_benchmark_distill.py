"""``tools/dev/benchmark.py distill``."""

import re

import pytest

import benchmark
import benchmark_distill
from medseg_kd.errors import UserError
from medseg_kd.models.profiling import interleaved_seconds

PAIR = ["--teacher", "configs/compare/teacher_headneck.py", "--student", "configs/compare/student_headneck.py"]
SMALL = ["--size", "64", "64", "--batch", "2", "--repeat", "1", "--device", "cpu"]


def test_each_method_beside_its_parts(capsys, monkeypatch):
    """Every step leaves no gradient behind, and none of them trains the teacher."""
    seen = []

    def watched(steps, repeat, device):
        for step in steps.values():
            step()
            cells = [cell.cell_contents for cell in step.__closure__]
            (model,) = [cell for cell in cells if hasattr(cell, "zero_grad")]
            assert all(parameter.grad is None for parameter in model.parameters())
            seen.append(type(model).__name__)
        return interleaved_seconds(steps, repeat, device)

    monkeypatch.setattr(benchmark_distill, "interleaved_seconds", watched)
    benchmark.main(["distill", *PAIR, *SMALL, "--methods", "KD", "ReviewKD"])
    assert seen == ["Segmentor", "SingleTeacherDistill", "SingleTeacherDistill"]
    printed = capsys.readouterr().out
    assert "(2, 1, 64, 64), float32, CPU" in printed
    ratios = dict(re.findall(r"\| (\w+) .*\| +([\d.]+) \(", printed))
    assert set(ratios) == {"KD", "ReviewKD"}
    assert float(ratios["ReviewKD"]) > 0


def test_a_size_that_is_none():
    with pytest.raises(UserError, match="--repeat must be at least 1"):
        benchmark.main(["distill", *PAIR, *SMALL[:-3], "0"])
