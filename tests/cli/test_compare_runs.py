"""The command that compares runs prints what papers print."""

from pathlib import Path

import pytest
from scipy import stats

from medseg_kd.cli.compare_runs import main
from medseg_kd.errors import UserError

from .commands import fail

HEADER = "protocol,case,class,dice,jaccard,hd95,asd,unit,status\n"
BASELINE = [(80.0, 4.0), (70.0, 6.0), (90.0, 3.0), (60.0, 9.0)]
STUDENT = [(82.0, 3.0), (75.0, 6.5), (91.0, 2.0), (64.0, 5.0)]


def write(run: Path, aorta: list[tuple[float, float]], status: str = "ok") -> Path:
    """A run whose liver is the same for everybody."""
    lines = [
        f"transunet,case{index},{organ},{dice},1,{distance},1,voxel,{status}\n"
        for index, scores in enumerate(aorta)
        for organ, (dice, distance) in (("aorta", scores), ("liver", (90.0, 2.0)))
    ]
    (run / "test").mkdir(parents=True)
    (run / "test" / "per_case.csv").write_text(HEADER + "".join(lines))
    return run


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    return [str(write(tmp_path / "plain", BASELINE)), str(write(tmp_path / "cwd_r18", STUDENT))]


def test_table_differences_and_file(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "comparison.md"
    main([*runs, "--latex", "--out", str(out)])
    text = capsys.readouterr().out
    assert out.read_text() == text
    lines = text.splitlines()
    assert "| run | Dice (%) | HD95 (voxels) | aorta | liver |" in lines
    assert "| plain | 82.50 | 3.75 | 75.00 | **90.00** |" in lines
    assert "| cwd_r18 | **84.00** | **3.06** | **78.00** | **90.00** |" in lines
    assert r"run & Dice (\%) & HD95 (voxels) & aorta & liver \\" in lines
    assert r"cwd\_r18 & \textbf{84.00} & \textbf{3.06} & \textbf{78.00} & \textbf{90.00} \\" in lines
    assert "cwd_r18 minus plain: Dice (%), above 0 is better" in lines
    assert "cwd_r18 minus plain: HD95 (voxels), below 0 is better" in lines
    assert "Organ-cases missed and invented: plain 0 and 0; cwd_r18 0 and 0." in lines
    for column in range(2):
        p = stats.wilcoxon(*([scores[column] for scores in run] for run in (STUDENT, BASELINE))).pvalue
        (row,) = [line for line in lines if line.startswith(("| aorta | +3.00 |", "| aorta | -1.38 |")[column])]
        assert row.endswith(f" | {p:.4g} | 4 | 0 |")
    assert lines.count("| liver | +0.00 | +0.00 to +0.00 | n/a: all pairs are equal | 4 | 0 |") == 2


def test_measures_are_chosen(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main([*runs, "--measures", "HD95"])
    text = capsys.readouterr().out
    assert "| plain | 3.75 | 5.50 | **2.00** |" in text
    assert "Dice (%)" not in text
    assert "tabular" not in text


def test_absent_organs_are_told(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blind = write(tmp_path / "blind", [(0.0, 0.0)] * 4, status="missed")
    main([*runs, str(blind)])
    text = capsys.readouterr().out
    assert "cwd_r18 0 and 0; blind 8 and 0. This protocol gives them a distance of 0" in text
    assert "blind minus plain: Dice" in text
    assert "blind minus cwd_r18" not in text


def test_what_has_no_number_is_a_dash(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([runs[0], str(write(tmp_path / "dice_only", [(80.0, float("nan"))] * 4))])
    lines = capsys.readouterr().out.splitlines()
    assert "| aorta | - | n/a: fewer than two pairs | n/a: no pair | 0 | 4 |" in lines


def test_mistakes_are_named(runs: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not hold the protocol strict: found transunet"):
        main([*runs, "--protocol", "strict"])
    with pytest.raises(UserError, match="cannot write "):
        main([*runs, "--out", str(tmp_path)])
    with pytest.raises(UserError, match="--seed -1"):
        main([*runs, "--seed", "-1"])
    message = fail("tools/compare_runs.py", runs[0], "nowhere", cwd=tmp_path, forked=False)
    assert "python test.py CONFIG --work-dir nowhere" in message
