"""The pages of results say what the scores say that are kept beside them, in both languages."""

import re
import statistics
from pathlib import Path

import pytest

from medseg_kd.experiments.methods import LABELS, LONGER, PLAIN, TEACHER
from medseg_kd.experiments.results import Results, kept
from medseg_kd.report.methods_page import KEPT_BELOW, page
from tests.pages import ROOT, tables
from tools.dev.results_in_chinese import in_chinese

PAGES = sorted(folder.with_suffix(".md") for folder in ROOT.glob("docs/results*") if folder.is_dir())


def above(file: Path) -> str:
    """The part that is made."""
    return file.read_text(encoding="utf-8").partition(KEPT_BELOW)[0].rstrip("\n")


@pytest.mark.parametrize("file", PAGES, ids=[file.stem for file in PAGES])
def test_pages_are_made_of_the_scores(file: Path) -> None:
    made = page(kept(file.with_suffix("")))
    assert above(file) == made.rstrip("\n")
    assert above(file.with_suffix(".zh.md")) == in_chinese(made).rstrip("\n")


def test_there_are_pages() -> None:
    names = {"results", "results_20cases", "results_8cases", "results_share", "results_unlabelled"}
    assert {file.stem for file in PAGES} == names


@pytest.mark.parametrize("file", ["docs/choosing.md", "docs/choosing.zh.md"])
def test_what_is_chosen_by_is_what_came_out(file: str) -> None:
    every, few, share = (kept(ROOT / "docs" / name) for name in ("results", "results_8cases", "results_share"))
    seconds = {name: cost["seconds_per_iteration"] for name, cost in every.facts["costs"].items()}
    expected = {
        name: [*_gains(every, name), *_gains(few, name), f"{seconds[name] / seconds[PLAIN]:.2f}"]
        for name in every.methods
    }
    gains, _, rule = tables(file)
    assert {row[0]: row[1:6] for row in gains[1:]} == expected
    assert {row[0]: row[1:] for row in rule[1:]} == {name: _by_rule(every, share, name) for name in every.methods}
    differences = [float(row[3]) for row in rule[1:]]
    counts = [sum(each >= -0.5 for each in differences), sum(abs(each) <= 0.5 for each in differences)]
    said = re.findall(r"(\d+)/12", (ROOT / file).read_text(encoding="utf-8"))
    assert [int(each) for each in said] == counts


def _by_rule(every: Results, share: Results, name: str) -> list[str]:
    """Mean Dice with the searched weight and with the rule's, the difference and its standard error over the seeds."""
    assert share.facts["seeds"] == every.facts["seeds"]
    searched, by_rule = (same.over_seeds(name, "dice") for same in (every, share))
    differences = [theirs - ours for ours, theirs in zip(searched, by_rule, strict=True)]
    means = [statistics.fmean(each) for each in (searched, by_rule, differences)]
    error = statistics.stdev(differences) / len(differences) ** 0.5
    return [f"{means[0]:.2f}", f"{means[1]:.2f}", f"{means[2]:+.2f}", f"{error:.2f}"]


@pytest.mark.parametrize("file", ["docs/choosing.md", "docs/choosing.zh.md", "README.md", "README_zh-CN.md"])
def test_what_is_said_of_twenty_patients_is_what_came_out(file: str) -> None:
    results = kept(ROOT / "docs/results_20cases")
    longer = results.to(LONGER, "dice")
    points = [f"{longer[name][0].mean:.1f}" for name in ("CWD", "ReviewKD")]
    if "choosing" in file:
        points = [f"{results.gain(name):.1f}" for name in ("CWD", "ReviewKD")] + points
    assert all(p is not None and p < 1e-4 for _, p in (longer["CWD"], longer["ReviewKD"]))
    text = (ROOT / file).read_text(encoding="utf-8").replace("\n", " ")
    said = next(part for part in text.split("20cases")[1:] if "CWD" in part[:400])[:400]
    assert [each for each in re.findall(r"\d\.\d", said) if each in points] == points


@pytest.mark.parametrize("ending", [".md", ".zh.md"])
def test_what_is_said_of_the_teachers_labels_is_what_came_out(ending: str) -> None:
    results = kept(ROOT / "docs/results_unlabelled")
    assert len(results.facts["seeds"]) == 3 and results.methods[0] == LABELS
    closed = {name: f"{100 * results.gain(name) / results.gain(TEACHER):.0f} %" for name in results.methods}
    longer = results.to(LONGER, "dice")
    assert all(p is not None and p < 0.01 for _, p in (longer[name] for name in results.methods))
    page, choosing, twenty = (
        (ROOT / f"docs/{name}{ending}").read_text(encoding="utf-8").replace("\n", " ")
        for name in ("results_unlabelled", "choosing", "results_20cases")
    )
    below, after = page.partition(KEPT_BELOW)[2], choosing.split("results_unlabelled")[-1]
    share = re.compile(r"\d\d %")
    assert share.findall(below) == [closed[name] for name in ("CWD", "ReviewKD", "AttnFD", LABELS)]
    assert share.findall(after)[:2] == [closed[LABELS], closed["CWD"]]
    assert share.findall(twenty.partition(KEPT_BELOW)[2]) == [closed["CWD"]]
    assert re.findall(r"\d\.\d", after)[0] == f"{results.gain('CWD'):.1f}"
    readme = (ROOT / ("README.md" if ending == ".md" else "README_zh-CN.md")).read_text(encoding="utf-8")
    assert share.findall(readme.partition("results_unlabelled")[2])[0] == closed["CWD"]


def _gains(results: Results, name: str) -> list[str]:
    """Points above the plain student, and p: corrected, in bold below 0.05."""
    _, p = results.to(PLAIN, "dice")[name]
    assert p is not None
    return [f"{results.gain(name):+.2f}", f"**{p:.2g}**" if p < 0.05 else f"{p:.2g}"]
