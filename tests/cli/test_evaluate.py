"""tools/evaluate.py: from two folders to tables, files and an exit code."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg_kd.cli.compare_runs import main as compare
from medseg_kd.cli.evaluate import main
from medseg_kd.errors import UserError
from tests.cli.commands import fail, succeed
from tests.datasets.volume_files import write_volume


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two cases of two organs, one of which is called a_b."""
    for case in range(2):
        truth = np.zeros((4, 9, 9), np.uint8)
        truth[1:3, 1:5, 1:5], truth[1:3, 6:8, 6:8] = 1, 2
        write_volume(tmp_path / f"labelsTr/case{case}.nii.gz", truth)
        write_volume(tmp_path / f"found/case{case}.nii.gz", np.roll(truth, case + 1, axis=2))
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1, "a_b": 2}}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_tables_and_files(home: Path) -> None:
    said = succeed("tools/evaluate.py", "found", "labelsTr", "--out", "scores", "--tolerance", "1.5", cwd=home)
    for text in (
        "protocol transunet, 2 case(s): Dice, Jaccard, NSD (within 1.5 mm), RAVD in %; HD95, ASD in voxels; AVD in mL",
        "| liver |",
        "4 organ-cases: 4 in both, 0 missed, 0 false alarms, 0 empty in both",
        "95% interval of the mean: Dice ",
        "Caution: with fewer than 50 cases",
        "Scores are in scores/metrics.json, scores/per_case.csv, scores/scores.md, scores/scores.tex",
    ):
        assert text in said
    scores = json.loads((home / "scores/metrics.json").read_text())
    assert scores["strict"]["per_class"]["liver"]["Dice"] == pytest.approx(100 * (0.75 + 0.5) / 2)
    assert scores["strict"]["intervals"]["Dice"]["liver"] == pytest.approx([50, 75])
    assert scores["strict"]["measures"] == {"NSD": "NSD (within 1.5 mm)"}
    with open("scores/per_case.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["dice"] for row in rows if row["class"] == "liver"] == ["75.0", "50.0"] * 2
    page, latex = ((home / f"scores/scores.{kind}").read_text() for kind in ("md", "tex"))
    assert "| liver | 62.50 (50.00 to 75.00) |" in page
    assert r"a\_b & " in latex and "62.50 (50.00--75.00)" in latex and latex.count(r"\begin{tabular}{lrrrrrrrrr}") == 2


def test_exit_codes(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "found/case0.nii.gz").write_text("no volume")
    with pytest.raises(SystemExit) as stopped:
        main(["found", "labelsTr", "--out", "scores"])
    assert stopped.value.code == 1
    said = capsys.readouterr()
    assert "not scored: case0\n  cannot read" in said.err and "1 case(s)" in said.out and "1 of 2 cases" in said.out
    assert (home / "scores/metrics.json").is_file()
    (home / "found/case0.nii.gz").unlink()
    assert "1 of 2 cases of labelsTr have no prediction: case0. Add them" in fail(
        "tools/evaluate.py", "found", "labelsTr", "--out", "other", cwd=home
    )
    assert not (home / "other").exists()
    main(["found", "labelsTr", "--allow-missing", "--measures", "Dice"])
    (home / "file").touch()
    with pytest.raises(UserError, match="cannot write into file: .*Choose another --out"):
        main(["found", "labelsTr", "--allow-missing", "--measures", "Dice", "--out", "file"])


def test_images_are_scored_by_their_contours(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, columns in (("a", slice(2, 12)), ("b", slice(4, 14))):
        label = np.zeros((20, 20), np.uint8)
        label[2:18, columns] = 1
        (home / folder).mkdir()
        Image.fromarray(label).save(home / folder / "photo.png")
    main(["a", "b", "--classes", "background", "lesion", "--protocols", "strict", "--tolerance", "lesion=1"])
    said = capsys.readouterr().out
    assert "Note: the truth does not tell the size of its voxels: distances are in voxels" in said
    assert "NSD (lesion 1 voxel), RAVD in %; HD95, ASD in voxels" in said and "mL" not in said
    assert "| lesion | 80.00 |   66.67 | 2.00 |" in said


def test_conventions_are_not_compared_with_each_other(home: Path) -> None:
    for convention in ("medpy", "monai"):
        main(["found", "labelsTr", "--hd95", convention, "--out", convention])
    compare(["medpy", "monai", "--measures", "Dice"])
    with pytest.raises(UserError, match="not measured alike: HD95 in medpy/.*; HD95 .MONAI. in monai/"):
        compare(["medpy", "monai"])
