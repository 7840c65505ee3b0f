"""Runs of several seeds are averaged case by case, and compared with the first group."""

from pathlib import Path

import pytest
from scipy import stats

import seed_table
from medseg_kd.errors import UserError
from tests.cli.test_compare_runs import BASELINE, STUDENT, write


def test_seeds_are_averaged_and_paired(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    better = [(dice + 4, distance) for dice, distance in STUDENT]
    for name, scores in (("plain", BASELINE), ("kd0", STUDENT), ("kd1", better)):
        write(tmp_path / name, scores)
    seed_table.main([f"plain={tmp_path}/plain", f"KD={tmp_path}/kd0,{tmp_path}/kd1", "--protocol", "transunet"])
    lines = capsys.readouterr().out.splitlines()
    assert "| plain | 82.50 | 3.75 | 0, 0 |  |  |  |" in lines
    means = [(dice + 2 + 90) / 2 for dice, _ in STUDENT], [(dice + 90) / 2 for dice, _ in BASELINE]
    (row,) = [line for line in lines if line.startswith("| KD | 85.00 ± 1.41 | 3.06 ± 0.00 | 0, 0 | +2.50 |")]
    assert row.endswith(f" | {stats.wilcoxon(*means).pvalue:.2g} |")
    assert "| KD | 80.00 | 90.00 |" in lines


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="share a name: a, a"):
        seed_table.main([f"a={tmp_path}/x", f"a={tmp_path}/y"])
