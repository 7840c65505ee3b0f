"""tools/compare_methods.py."""

import csv
import json
import shutil
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


def test_the_teacher_labels_for_distilled_students_what_has_no_label(home, phantom):
    labelled = ("--cfg-options", "train_dataloader.dataset.labelled=['case0001']")
    text = compare(phantom, "--methods", "KD", "--seeds", "0", "--jobs", "2", "--teacher-labels", *labelled)
    folders = {folder.parent.name: folder for folder in Forked.started}
    assert list(folders) == ["teacher", "plain_student", "teacher_labels_alone", "kd"]
    trained = {name: read_checkpoint(folder / "iter_2.pth") for name, folder in folders.items()}
    given = {name: "with_unlabelled=True" in each["meta"]["cfg"].replace(" ", "") for name, each in trained.items()}
    assert given == dict(teacher=False, plain_student=False, teacher_labels_alone=True, kd=True)
    logs = {name: (folder / "train.log").read_text(encoding="utf-8") for name, folder in folders.items()}
    assert [name for name, log in logs.items() if "2 of 3 cases have no label" in log] == ["teacher_labels_alone", "kd"]
    assert "distill." not in logs["teacher_labels_alone"] and "distill.loss_kd" in logs["kd"]
    assert list(rows(text, "## Scores")) == ["teacher", "plain student", "teacher's labels alone", "KD"]
    assert "1 training cases with 4 slices" in text
    assert (
        "- distilled students: 2 further training cases without a label, which the teacher gives them; 12 slices in"
        in text
    )


@pytest.fixture
def made_up(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of two seeds whose scores are made up: in the mean KD gains 1, 2, 6 points in three cases, the teacher 6."""
    gains = {"kd": (1, 2, 6), "teacher": (6, 6, 6), "at": (0, 0, 0.5)}

    def train(run: Run, launcher: str) -> None:
        (run.work_dir / "log/vis_data").mkdir(parents=True)
        (run.work_dir / "log/environment.txt").write_text("device: none\ntorch: 0\n")
        time = {"kd": 0.6, "at": 0.9}.get(run.work_dir.parent.name, 0.4)
        scalars = [json.dumps({"lr": 1, "time": each}) for each in (time - 0.1, time + 0.1)]
        (run.work_dir / "log/vis_data/scalars.json").write_text("\n".join(scalars) + "\n")

    def test(run: Run, launcher: str) -> None:
        seed, name = int(run.work_dir.name[-1]), run.work_dir.parent.name
        gain = [each + (4 * seed - 2 if name == "kd" else 0) for each in gains.get(name, (0, 0, 0))]
        (run.work_dir / "test").mkdir()
        with (run.work_dir / "test/per_case.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*SCORES[:7], "nsd", *SCORES[7:]])
            for case, more in zip("abc", gain, strict=True):
                writer.writerow(["strict", case, "liver", 50 + more, 40, 9 - more, 1, 70, "mm", "ok"])
                writer.writerow(["transunet", case, "liver", 0, 0, 0, 0, 0, "voxel", "ok"])
        means = {"mDice": 50 + sum(gain) / 3, "mHD95": 9}
        (run.work_dir / "test/metrics.json").write_text(json.dumps({"strict": means, "transunet": means}))

    monkeypatch.setattr("medseg_kd.experiments.job._train", train)
    monkeypatch.setattr("medseg_kd.experiments.job._test", test)
    monkeypatch.setattr("medseg_kd.experiments.results._recipe", lambda plan, options: [])


def test_differences_are_those_of_the_means_over_the_seeds_paired_by_case(made_up, phantom):
    text = compare(phantom, "--methods", "KD", "--seeds", "0", "1")
    assert rows(text, "## Scores")["KD"] == ["53.00 ± 2.83", "6.00 ± 2.83", "70.00 ± 0.00", "50", "0 and 0"]
    assert rows(text, "## Differences")["KD"][:3] == ["+3.00", "+1.00 to +6.00", "0.25"]
    assert rows(text, "## Differences")["KD"][3] == "-3.00"
    assert rows(text, "## Cost")["KD"][2] == "0.600"


def test_connectors_are_those_of_the_options(made_up, phantom):
    narrow = ("--method-options", "ReviewKD", "mid_channel=4")
    texts = [
        compare(phantom, "--methods", "ReviewKD", "--seeds", "0", "--work-dir", name, *more)
        for name, more in (
            ("wide", ()),
            ("narrow", narrow),
        )
    ]
    wide, narrowed = (float(rows(text, "## Cost")["ReviewKD"][1]) for text in texts)
    assert narrowed < wide / 2


def test_p_is_corrected_for_the_number_of_methods(made_up, phantom):
    found = rows(compare(phantom, "--methods", "KD", "AT", "--seeds", "0", "1"), "## Differences")
    assert (found["KD"][2], found["AT"][2], found["teacher"][2]) == ("0.5", "1", "0.25")


def test_the_plain_student_for_as_long_as_the_dearest_method(made_up, phantom):
    schedule = ("--cfg-options", "param_scheduler.1.end=2")
    text = compare(phantom, "--methods", "KD", "AT", "--seeds", "0", "1", "--longer-plain", *schedule)
    # 2 * 0.9 / 0.4 iterations, rounded up.
    longer = [folder for folder in Forked.started if folder.parent.name == "plain_student_5"]
    assert [folder.name for folder in longer] == ["seed0", "seed1"]
    trained = json.loads((longer[0] / "run.json").read_text(encoding="utf-8"))["origin"][0]
    assert "train_cfg.max_iters=5" in trained and "param_scheduler.1.end=5" in trained
    assert list(rows(text, "trained as long as the dearest")) == ["teacher", "plain student", "KD", "AT"]
    assert rows(text, "trained as long as the dearest")["KD"][0] == "+3.00"


def test_runs_too_short_to_be_timed_are_told_where_a_longer_one_goes_by_them(made_up, phantom, monkeypatch, capsys):
    monkeypatch.setattr("medseg_kd.experiments.job._seconds_per_iteration", lambda folder: float("nan"))
    with pytest.raises(UserError, match=r"teacher.seed0: its log tells no time of an iteration.*logger\.interval"):
        compare(phantom, "--methods", "KD", "--seeds", "0", "--longer-plain")
    (told,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[1/3]") and "Dice" in line]
    assert "trained in" in told and "s/iter" not in told


def test_the_page_comes_from_what_is_kept_beside_it(made_up, phantom, monkeypatch):
    text = compare(phantom, "--methods", "KD", "--seeds", "0", "1")
    shutil.rmtree("work_dirs")
    assert compare(phantom, "--kept") == text
    with pytest.raises(UserError, match=r'leave out --title, or change "title" in page.facts\.json'):
        compare(phantom, "--kept", "--title", "Another")
    scores = Path("page/per_case.csv")
    whole = scores.read_text(encoding="utf-8")
    scores.write_text("".join(line for line in whole.splitlines(keepends=True) if not line.startswith("KD,1,")))
    with pytest.raises(UserError, match=r"per_case.csv, KD, seed 1: no line"):
        compare(phantom, "--kept")
    scores.write_text(whole.replace(",nsd,", ",other,"))
    with pytest.raises(UserError, match=r"per_case.csv lacks the columns nsd"):
        compare(phantom, "--kept")
    assert Path("page.md").read_text(encoding="utf-8") == text


def test_a_run_that_fails_is_told_with_the_end_of_its_log(home, phantom):
    with pytest.raises(UserError, match=r"(?s)teacher/seed0 failed; the end of .*train\.log.*nothing\.pth"):
        compare(phantom, "--cfg-options", "load_from=nothing.pth")
    assert len(Forked.started) == 1


def test_a_page_without_an_ending_is_refused_before_anything_is_trained(home, phantom):
    with pytest.raises(UserError, match=r"--out page: expected a name with an ending, such as page.md"):
        compare(phantom, "--out", "page")
    assert not Forked.started


@pytest.mark.parametrize("given", [("CDW", "tau=1"), ("CWD",), ("CWD", "tau")])
def test_options_that_belong_to_no_method(home, phantom, given):
    with pytest.raises(UserError, match=f"--method-options {given[0]}"):
        compare(phantom, "--method-options", *given)
    assert not Forked.started
