"""The page of runs: its numbers, its bounds, and what it tells of what is not there."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from medseg_kd.cli.report import main
from medseg_kd.errors import UserError
from medseg_kd.report.page import labels as labels_module
from medseg_kd.report.page import pictures, writing
from medseg_kd.report.page.charts import strip_chart
from medseg_kd.report.page.facts import costs, method
from medseg_kd.report.page.labels import CaseLabels, KeepLabelsHook, file_of, read_labels
from medseg_kd.report.page.pictures import case_pictures, chosen_cases, grey_or_colour, other_predictions, unpacked
from medseg_kd.report.page.run_files import RunFiles
from tests.report.conftest import CASE, HOSTILE, ORGANS


def viewer_of(page: str) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_numbers_are_those_of_metrics_json(runs: list[Path]) -> None:
    page = (runs[0] / "report.html").read_text(encoding="utf-8")
    metrics = json.loads((runs[0] / "test/metrics.json").read_text(encoding="utf-8"))
    for protocol, table in metrics.items():
        part = page.split(f'data-protocol="{protocol}"')[1].split("</article>")[0]
        shown = re.findall(r'class="value">([^<]+)<', part)
        rows = [
            *table["per_class"].values(),
            {title: table[f"m{title}"] for title in ("Dice", "Jaccard", "HD95", "ASD")},
        ]
        expected = ["-" if value is None else f"{value:.2f}" for row in rows for value in row.values()]
        assert [cell for row in range(9) for cell in shown[6 * row : 6 * row + 4]] == expected
        if protocol == "strict":
            assert shown[-2:] == [str(table["missed"]), str(table["false_alarms"])]


def test_names_are_text_and_nothing_is_asked_of_a_network(runs: list[Path]) -> None:
    page = (runs[1] / "report.html").read_text(encoding="utf-8")
    assert HOSTILE not in page and "<img src=x" not in page and "student <i>" not in page
    assert "主动脉" in page and "left $kidney_" in page
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page) and "@import" not in page and "default-src 'none'" in page
    assert {case["name"] for case in viewer_of(page)["cases"]} == {"case0004", "case0005", CASE}


def test_it_tells_costs_teacher_config_and_what_was_done(runs: list[Path]) -> None:
    page = (runs[1] / "report.html").read_text(encoding="utf-8")
    dice = json.loads((runs[0] / "test/metrics.json").read_text())["strict"]["mDice"]
    row = '<tr><th scope="row">{}</th><td>{}</td></tr>'
    assert row.format("teacher", "TinyNet") in page and row.format("distilled by", "CWD (tau=4)") in page
    assert row.format("teacher: Dice (%), strict", f"{dice:.2f}") in page and row.format("labels", "--tta") in page
    assert row.format("GFLOPs", "0.0001") in page and "one slice, 1x48x48" in page and "train_cfg" in page
    assert "synthetic phantom, not patients" in page and "Environment of student &lt;i&gt;, training and test" in page


def test_runs_are_compared_case_by_case(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new/page.html"
    main([*map(str, runs), "--out", str(out)])
    assert capsys.readouterr().out == f"Report: {out}\n"
    page = out.read_text(encoding="utf-8")
    assert "student &lt;i&gt; minus teacher: Dice (%)" in page and len(page.encode()) < writing.LIMIT
    case = viewer_of(page)["cases"][0]
    for number, run in enumerate(runs):
        kept = read_labels(run / "test/report/labels", case["name"])
        assert kept is not None
        for each in case["slices"]:
            assert unpacked(each["predictions"][number]) == kept.prediction[each["number"]].tobytes()
            assert unpacked(each["truth"]) == kept.truth[each["number"]].tobytes()  # type: ignore[index]


def test_scores_of_another_test_get_no_pictures(runs: list[Path], tmp_path: Path) -> None:
    for name in ("metrics.json", "per_case.csv"):
        (tmp_path / "test").mkdir(exist_ok=True)
        (tmp_path / "test" / name).write_bytes((runs[0] / "test" / name).read_bytes())
    main([str(tmp_path)])
    page = (tmp_path / "report.html").read_text()
    assert "the test did not keep them" in page and "no curves: " in page and "No pictures of cases were kept" in page
    (tmp_path / "test/report").mkdir()
    (tmp_path / "test/report/facts.json").write_text('{"scores": "other"}')
    main([str(tmp_path)])
    assert "they are of another test than the scores" in (tmp_path / "report.html").read_text()


def test_measures_are_called_what_the_scores_say(runs: list[Path], tmp_path: Path) -> None:
    metrics = json.loads((runs[0] / "test/metrics.json").read_text(encoding="utf-8"))
    for table in metrics.values():
        table["measures"] = {"HD95": "HD95 (monai)"}
        table["mRecall"] = 50.0
        table["intervals"] = {"Dice": {"liver": [12.0, 34.5], "mean": None}}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    (tmp_path / "per_case.csv").write_bytes((runs[0] / "test/per_case.csv").read_bytes())
    main([str(tmp_path)])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<th scope="col">HD95 (monai) (voxels)</th>' in page and "not known here: Recall" in page
    assert "<small>12.00 to 34.50</small>" in page and "seed of metrics.json" in page


def test_what_was_not_tested_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"has no test/metrics.json and test/per_case.csv: expected a run that was tested"
    ):
        main([str(tmp_path)])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.json", "{}", "metrics.json holds none of the protocols transunet, strict"),
        ("metrics.json", '{"strict": 3}', "metrics.json: strict is 3: expected a dict"),
        ("metrics.json", '{"strict": {"mDice": 3}}', "metrics.json: strict is None: expected a dict"),
        ("metrics.json", '{"strict": {"per_class": {"liver": 1}}}', "strict, liver is 1: expected a dict"),
        ("metrics.json", "[]", r"metrics.json is \[\]: expected a dict"),
        ("per_case.csv", "", "per_case.csv lacks the columns protocol, case"),
        ("per_case.csv", "protocol,case\nstrict", "per_case.csv lacks the columns class"),
    ],
)
def test_scores_that_are_damaged(runs: list[Path], tmp_path: Path, name: str, content: str, message: str) -> None:
    for each in ("metrics.json", "per_case.csv"):
        (tmp_path / each).write_bytes((runs[0] / "test" / each).read_bytes())
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        main([str(tmp_path)])
    assert not (tmp_path / "report.html").exists()


def test_a_page_keeps_within_its_limit(runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = (runs[0] / "report.html").stat().st_size
    monkeypatch.setattr(writing, "LIMIT", whole - 2000)
    writing.write_page([RunFiles.find(runs[0])], tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < whole - 2000
    assert "2 of 4 slices" in viewer_of((tmp_path / "page.html").read_text(encoding="utf-8"))["cases"][0]["told"]


def test_cases_are_kept_without_harm_to_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Sample:
        case_name, spacing = "../evil/名", None

        class pred_sem_seg:  # noqa: N801
            data = torch.ones(2, 3, 3, dtype=torch.uint8)

        def __contains__(self, name: str) -> bool:
            return False

    class Runner:
        class test_dataloader:  # noqa: N801
            batch_size = 1

        bare_model = None

    hook = KeepLabelsHook(tmp_path)
    hook.before_test(Runner)
    hook.after_test_iter(Runner, 2, outputs=[Sample()])
    kept = read_labels(hook.folder, Sample.case_name)
    assert kept is not None and kept.position == 2 and kept.truth is None and kept.prediction.sum() == 18
    assert [path.parent for path in tmp_path.rglob("*.npz")] == [hook.folder]
    monkeypatch.setattr(labels_module, "RESERVED", 1 << 60)
    hook.after_test_iter(Runner, 3, outputs=[Sample()])
    assert "kept for the scores" in hook.failure and not [*tmp_path.rglob("*.npz")]
    hook.folder.mkdir(exist_ok=True)
    file_of(hook.folder, "damaged").write_bytes(b"PK\x03\x04")
    assert read_labels(hook.folder, "damaged") is None
    assert not hook.has_scores
    (tmp_path / "metrics.json").write_text("{}")
    assert hook.has_scores


def test_the_worst_the_median_and_the_best_come_first() -> None:
    values = np.array([[90.0, 70], [50, np.nan], [np.nan, np.nan], [99, 95], [60, 60], [70, 70]])
    names = ["good", "worst", "empty", "best", "poor", "fair"]
    found = chosen_cases(names, values, True)
    assert found[:3] == [("worst", "worst"), ("fair", "median"), ("best", "best")]
    assert [name for name, _ in found[3:]] == ["poor", "good"] and found[3][1] == "rank 2 of 5"
    assert chosen_cases(names[:1], values[:1], True) == [("good", "worst")]
    assert chosen_cases(["near", "far"], np.array([[1.0], [9.0]]), False) == [("far", "worst"), ("near", "best")]
    assert chosen_cases(["empty"], np.array([[np.nan]]), True) == []


def test_pictures_keep_within_a_budget_and_labels_stay_exact() -> None:
    random = np.random.default_rng(0)
    truth = np.zeros((40, 600, 300), np.uint8)
    truth[:, 100:300, 50:150] = 2
    prediction = truth.copy()
    prediction[7, 0:50] = 1
    image = random.integers(0, 255, truth.shape, np.uint8)
    labels = CaseLabels(prediction, truth, 0, (5.0, 2.0, 1.0), 255)
    few = case_pictures(image, labels, 200_000)
    assert pictures.size_of(few["slices"]) <= 200_000 and few["of"] == [40, 600, 300]
    assert 1 < len(few["slices"]) < 40 and few["height"] <= 512 and few["aspect"] == 0.25
    one = case_pictures(image[7:8, ::10, ::10], CaseLabels(prediction[7:8], truth[7:8], 0, None, 255), 10**7)
    assert (one["height"], one["width"], one["start"]) == (512, 256, 0)
    rows = np.frombuffer(unpacked(one["slices"][0]["prediction"]), np.uint8).reshape(512, 256)
    assert set(np.unique(rows)) == {0, 1, 2} and (rows[:42] == 1).all()
    assert other_predictions(one, labels) is None
    alone, swapped = (CaseLabels(each[7:8], truth[7:8], 0, None, 255) for each in (prediction, truth))
    assert other_predictions(one, alone) == [one["slices"][0]["prediction"]]
    assert other_predictions(one, swapped) == [one["slices"][0]["truth"]]
    assert other_predictions(one, CaseLabels(truth[7:8], prediction[7:8], 0, None, 255)) is None
    with pytest.raises(UserError, match="the image has 3 slices, its labels 40"):
        case_pictures(image[:3], labels, 1000)


def test_images_become_grey_or_keep_their_colours() -> None:
    volume = np.stack([np.zeros((4, 4)), np.linspace(-1000, 1000, 16).reshape(4, 4), np.zeros((4, 4))])[None]
    grey = grey_or_colour(volume)
    assert (
        grey.shape == (1, 4, 4)
        and grey.min() == 0
        and grey.max() == 255
        and (np.diff(grey.ravel().astype(int)) >= 0).all()
    )
    bgr = np.zeros((1, 3, 2, 2), np.uint8)
    bgr[:, 0] = 200
    assert grey_or_colour(bgr, "BGR")[0, 0, 0].tolist() == [0, 0, 200]
    assert grey_or_colour(np.full((1, 1, 2, 2), np.nan)).tolist() == [[[0, 0], [0, 0]]]


def test_a_chart_names_its_points_and_takes_any_name() -> None:
    values = np.array([[50.0, np.nan], [70.0, 80.0]])
    chart = strip_chart("Dice (%)", ["a&b", "c"], [ORGANS[0], "$\\frac"], {"run": values})
    assert chart.count("<title>") == 3 and "<title>a&amp;b, 主动脉: 50.00</title>" in chart and "$\\frac" in chart
    assert 'role="img"' in chart and "var(--run0)" in chart and "DejaVu" not in chart and "#0000" not in chart


def test_what_cannot_be_measured_is_said() -> None:
    found = costs(torch.nn.Conv2d(2, 1, 1), dict(type="no such"), torch.zeros(1, 1, 4, 4))
    assert found["parameters"] == 3 and "flops" not in found and "milliseconds" not in found
    assert [remark.partition(":")[0] for remark in found["remarks"]] == [
        "operations were not counted",
        "time was not measured",
    ]
    losses = dict(a=dict(type="CWD"), b=dict(type="mmrazor.ATLoss"))
    assert (
        method(dict(distiller=dict(type="ConfigurableDistiller", distill_losses=losses)))
        == "ConfigurableDistiller (CWD, ATLoss)"
    )
    assert method(dict(type="Segmentor")) == ""
