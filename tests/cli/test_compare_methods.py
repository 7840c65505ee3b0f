"""tools/compare_methods.py."""

import csv
import json
import statistics
from pathlib import Path

import pytest

from medseg_kd.cli.compare_methods import main
from medseg_kd.errors import UserError
from medseg_kd.experiments.runs import Run
from medseg_kd.models.checkpoint import read_checkpoint
from medseg_kd.report.methods_page import KEPT_BELOW
from tests.cli.experiment_runs import Forked, fork_runs, write_config

SCORES = ("protocol", "case", "class", "dice", "jaccard", "hd95", "asd", "unit", "status")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a teacher and a student, whose runs are forked."""
    write_config(tmp_path, "teacher", 16)
    write_config(tmp_path, "student", 8)
    monkeypatch.chdir(tmp_path)
    fork_runs(monkeypatch)
    return tmp_path


def compare(phantom: Path, *arguments: str) -> str:
    shared = ["--teacher", "teacher.py", "--student", "student.py", "--data-root", str(phantom), "--out", "page.md"]
    main([*shared, *arguments])
    return Path("page.md").read_text(encoding="utf-8")


def rows(text: str, heading: str) -> dict[str, list[str]]:
    """Cells of the first table below a heading, by the first of each line."""
    lines = text.partition(heading)[2].splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    end = next((index for index, cells in enumerate(table[2:], start=2) if cells[0] == ""), len(table))
    return {cells[0]: cells[1:] for cells in table[2:end]}


def test_it_trains_what_is_missing_and_writes_what_came_out(home, phantom):
    arguments = ("--methods", "KD", "--seeds", "0", "1", "--jobs", "2", "--method-options", "KD", "tau=2")
    text = compare(phantom, *arguments)
    assert len(Forked.started) == 2 * 3
    pair = Path("work_dirs/compare/student/kd/seed1")
    trained = read_checkpoint(pair / "iter_2.pth")["meta"]["cfg"].replace(" ", "")
    assert "seed=1" in trained and "tau=2" in trained
    log = (pair / "train.log").read_text(encoding="utf-8")
    assert "Teacher loaded from work_dirs/compare/student/teacher/seed1/iter_2.pth" in log

    runs = [Path(f"work_dirs/compare/student/{name}/seed{s}") for name in ("plain_student", "kd") for s in (0, 1)]
    dice = [json.loads((run / "test/metrics.json").read_text())["strict"]["mDice"] for run in runs]
    scores = rows(text, "## Scores")
    assert scores["plain student"][0] == f"{statistics.fmean(dice[:2]):.2f} ± {statistics.stdev(dice[:2]):.2f}"
    assert scores["KD"][0] == f"{statistics.fmean(dice[2:]):.2f} ± {statistics.stdev(dice[2:]):.2f}"
    gain = statistics.fmean(dice[2:]) - statistics.fmean(dice[:2])
    assert f"(KD {gain:+.2f})" in text
    assert "synthetic data: the numbers say nothing about patients" in text
    assert "--method-options KD tau=2" in text and "KD `tau=2`" in text
    assert set(rows(text, "## Cost of training")) == {"teacher", "plain student", "KD"}

    Path("page.md").write_text(text + "What we think of it.\n", encoding="utf-8")
    again = compare(phantom, *arguments)
    assert len(Forked.started) == 2 * 3
    assert again == text + "What we think of it.\n"
    assert compare(phantom, *arguments, "--finished").startswith(text[: text.index(KEPT_BELOW)])
    with pytest.raises(UserError, match=r"kd/seed0 holds a run that was made in another way(.|\n)*tau=3"):
        compare(phantom, *arguments[:-1], "tau=3")


def test_differences_are_those_of_the_means_over_the_seeds_paired_by_case(home, phantom, monkeypatch):
    """Scores that are made up: a method that gains 1, 2 and 6 points in three cases in the mean of two seeds."""

    def train(run: Run, launcher: str) -> None:
        (run.work_dir / "log/vis_data").mkdir(parents=True)
        (run.work_dir / "log/environment.txt").write_text("device: none\ntorch: 0\n")
        (run.work_dir / "log/vis_data/scalars.json").write_text('{"lr": 1, "time": 0.5}\n{"lr": 1, "time": 0.7}\n')

    def test(run: Run, launcher: str) -> None:
        seed = int(run.work_dir.name[-1])
        gain = {"kd": (1 + 4 * seed - 2, 2 + 4 * seed - 2, 6 + 4 * seed - 2)}.get(run.work_dir.parent.name, (0, 0, 0))
        (run.work_dir / "test").mkdir()
        with (run.work_dir / "test/per_case.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(SCORES)
            for case, more in zip("abc", gain, strict=True):
                writer.writerow(["strict", case, "liver", 50 + more, 40, 9 - more, 1, "mm", "ok"])
        means = {"mDice": 50 + sum(gain) / 3, "mHD95": 9}
        (run.work_dir / "test/metrics.json").write_text(json.dumps({"strict": means, "transunet": means}))

    monkeypatch.setattr("medseg_kd.experiments.job._train", train)
    monkeypatch.setattr("medseg_kd.experiments.job._test", test)
    monkeypatch.setattr("medseg_kd.report.methods_page._recipe", lambda comparison: "")
    text = compare(phantom, "--methods", "KD", "--seeds", "0", "1")
    assert rows(text, "## Scores")["KD"] == ["53.00 ± 2.83", "6.00 ± 2.83", "0 and 0"]
    assert rows(text, "## Differences")["KD"][:3] == ["+3.00", "+1.00 to +6.00", "0.25"]
    assert rows(text, "## Differences")["KD"][3] == "-3.00"
    assert rows(text, "## Cost")["KD"][2] == "0.600"


def test_a_run_that_fails_is_told_with_the_end_of_its_log(home, phantom):
    with pytest.raises(UserError, match=r"(?s)teacher/seed0 failed; the end of .*train\.log.*nothing\.pth"):
        compare(phantom, "--cfg-options", "load_from=nothing.pth")
    assert len(Forked.started) == 1


@pytest.mark.parametrize("given", [("CDW", "tau=1"), ("CWD",), ("CWD", "tau")])
def test_options_that_belong_to_no_method(home, phantom, given):
    with pytest.raises(UserError, match=f"--method-options {given[0]}"):
        compare(phantom, "--method-options", *given)
    assert not Forked.started
