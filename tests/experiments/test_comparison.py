"""Runs are compared on what their CSV files hold, with SciPy's numbers."""

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from medseg_kd.errors import UserError
from medseg_kd.evaluation.summary import summarise, write_metrics_json, write_per_case_csv
from medseg_kd.experiments.comparison import differences, holm, paired_difference, read_runs

ORGANS = ("background", "aorta", "liver", "spleen")
CASES = tuple(f"case{index}" for index in range(8))
NAN = math.nan
MISSED: Mapping[str, float | str] = {"dice": 0.0, "jaccard": 0.0, "hd95": NAN, "asd": NAN, "status": "missed"}


def write_run(folder: Path, seed: int, unit: str = "mm", cases=CASES, organs=ORGANS, missed=(), protocol="strict"):
    """Write the files of a tested run with random scores; ``missed`` holds (case, organ index)."""
    rng = np.random.default_rng(seed)
    scored = []
    for case in cases:
        scores = {}
        for index in range(1, len(organs)):
            dice, distance = rng.uniform(0.3, 1.0), rng.uniform(1, 30)
            found = {"dice": dice, "jaccard": dice / (2 - dice), "hd95": distance, "asd": distance / 4, "status": "ok"}
            scores[index] = dict(MISSED) if (case, index) in missed else found
        scored.append((case, scores))
    summary = summarise(protocol, unit, scored, organs[1:], ("dice", "jaccard", "hd95", "asd"))
    write_metrics_json(folder / "test" / "metrics.json", [summary])
    write_per_case_csv(folder / "test" / "per_case.csv", [summary])
    return folder


def column(folder: Path, organ: str, metric: str) -> dict[str, float]:
    """The scores of an organ, read from the file as any reader would."""
    with (folder / "test" / "per_case.csv").open(newline="") as file:
        return {row["case"]: float(row[metric]) for row in csv.DictReader(file) if row["class"] == organ}


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two runs; the second lists the cases in another order and misses a liver."""
    first = write_run(tmp_path / "a", seed=1)
    return first, write_run(tmp_path / "b", seed=2, cases=CASES[::-1], missed=[("case3", 2)])


def test_means_are_those_of_metrics_json(pair: tuple[Path, Path]) -> None:
    for folder, run in zip(pair, read_runs(pair, "strict", ["dice", "hd95"]), strict=True):
        content = json.loads((folder / "test" / "metrics.json").read_text())["strict"]
        for metric, title in (("dice", "Dice"), ("jaccard", "Jaccard"), ("hd95", "HD95"), ("asd", "ASD")):
            assert run.mean(metric) == pytest.approx(content[f"m{title}"], rel=1e-12)
            organs = [content["per_class"][organ][title] for organ in run.organs]
            assert run.organ_means(metric) == pytest.approx(organs, rel=1e-12)
        assert (run.missed, run.false_alarms) == (int(folder.name == "b"), 0)


def test_p_is_that_of_scipy_on_the_files(pair: tuple[Path, Path]) -> None:
    first, second = pair
    baseline, run = read_runs(pair, "strict", ["dice", "hd95"])
    for metric in ("dice", "hd95"):
        found = differences(run, baseline, metric)
        assert list(found) == ["mean", *ORGANS[1:]]
        for organ in ORGANS[1:]:
            ours, theirs = column(second, organ, metric), column(first, organ, metric)
            cases = [case for case in CASES if not math.isnan(ours[case])]
            values = [[scores[case] for case in cases] for scores in (ours, theirs)]
            assert found[organ].p == stats.wilcoxon(*values).pvalue
            assert found[organ].mean == pytest.approx(np.mean(values[0]) - np.mean(values[1]))
            assert (found[organ].pairs, found[organ].left_out) == (len(cases), 8 - len(cases))
        assert found["mean"].p is not None
    assert differences(run, baseline, "hd95")["liver"].left_out == 1


def test_case_means_are_of_the_same_organs(pair: tuple[Path, Path]) -> None:
    first, second = pair
    baseline, run = read_runs(pair, "strict", ["hd95"])
    tables = [{organ: column(folder, organ, "hd95") for organ in ORGANS[1:]} for folder in (second, first)]
    kept = {case: [o for o in ORGANS[1:] if (case, o) != ("case3", "liver")] for case in CASES}
    means = [[np.mean([table[o][case] for o in kept[case]]) for case in CASES] for table in tables]
    found = differences(run, baseline, "hd95")["mean"]
    assert found.mean == pytest.approx(np.mean(means[0]) - np.mean(means[1]))
    assert found.p == pytest.approx(stats.wilcoxon(*means).pvalue)
    assert (found.pairs, found.left_out) == (8, 0)


def test_interval_is_a_seeded_bootstrap_of_the_mean() -> None:
    rng = np.random.default_rng(0)
    baseline = rng.normal(80, 10, 200)
    values = baseline + rng.normal(3, 2, 200)
    first, again, other = (paired_difference(values, baseline, seed).interval for seed in (5, 5, 6))
    assert first == again != other
    assert first is not None
    error = np.std(values - baseline, ddof=1) / math.sqrt(200)
    expected = (values - baseline).mean() + np.array([-1.96, 1.96]) * error
    assert first == pytest.approx(expected, abs=0.15 * error)


def test_what_is_not_defined_is_none() -> None:
    values = np.array([80.0, 90.0, NAN])
    equal = paired_difference(values, values)
    assert (equal.mean, equal.interval, equal.p, equal.pairs, equal.left_out) == (0.0, (0.0, 0.0), None, 2, 1)
    single = paired_difference(values, np.array([70.0, NAN, 3.0]))
    assert (single.mean, single.interval, single.p, single.pairs, single.left_out) == (10.0, None, 1.0, 1, 2)
    none = paired_difference(values, np.full(3, NAN))
    assert math.isnan(none.mean)
    assert (none.interval, none.p, none.pairs, none.left_out) == (None, None, 0, 3)


def test_a_run_is_given_by_any_of_its_names(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    first, second = pair
    for path in (second, second / "test", second / "test" / "per_case.csv"):
        assert [run.name for run in read_runs([first, path], "strict", ["dice"])] == ["a", "b"]
    namesake = write_run(tmp_path / "other" / "a", seed=3)
    assert [run.name for run in read_runs([first, namesake], "strict", ["dice"])] == [str(first), str(namesake)]


def test_runs_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", seed=1)
    fewer = write_run(tmp_path / "fewer", seed=1, cases=[*CASES[:7], "case99"])
    with pytest.raises(UserError, match=r"different cases; only in .*a.*: case7; only in .*fewer.*: case99"):
        read_runs([first, fewer], "strict", ["dice"])
    organs = write_run(tmp_path / "organs", seed=1, organs=ORGANS[:3])
    with pytest.raises(UserError, match=r"different organs; only in .*a.*: spleen; only in .*organs.*: none"):
        read_runs([first, organs], "strict", ["dice"])
    voxels = write_run(tmp_path / "voxels", seed=2, unit="voxel")
    with pytest.raises(UserError, match="different units: mm in .*; voxel in .*--measures Dice"):
        read_runs([first, voxels], "strict", ["dice", "hd95"])
    assert len(read_runs([first, voxels], "strict", ["dice"])) == 2
    other = write_run(tmp_path / "other", seed=2, protocol="transunet")
    with pytest.raises(UserError, match="other.*does not hold the protocol strict: found transunet"):
        read_runs([first, other], "strict", ["dice"])


def test_files_that_are_not_there_or_not_whole_are_refused(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", seed=1)
    (tmp_path / "untested").mkdir()
    with pytest.raises(UserError, match=r"untested has no test/per_case.csv.*python test.py CONFIG --work-dir .*untes"):
        read_runs([first, tmp_path / "untested"], "strict", ["dice"])
    with pytest.raises(UserError, match=r"gone is no run folder.*python test.py CONFIG --work-dir"):
        read_runs([first, tmp_path / "gone"], "strict", ["dice"])
    whole = (first / "test" / "per_case.csv").read_text().splitlines(keepends=True)
    broken = tmp_path / "broken.csv"
    for lines, message in (
        (["a,b\n", "1,2\n"], "lacks the columns protocol, case"),
        (whole[:1], "does not hold the protocol strict: found none"),
        (whole[:-1], "23 lines for 8 cases of 3 organs"),
        ([*whole, whole[-1]], "25 lines for 8 cases of 3 organs"),
        ([*whole[:-1], "strict,case7,spleen,50\n"], "a score is not a number"),
        ([*whole[:-1], "strict,case7,spleen,50,x,1,1,mm,ok\n"], "a score is not a number.*'x'"),
    ):
        broken.write_text("".join(lines))
        with pytest.raises(UserError, match=message):
            read_runs([first, broken], "strict", ["dice"])
    broken.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read as CSV"):
        read_runs([first, broken], "strict", ["dice"])


def test_holm():
    """The values of R's ``p.adjust(p, "holm")``."""
    found = holm({"a": 0.03, "b": 0.001, "c": None, "d": 0.02, "e": 0.6})
    assert found == pytest.approx({"a": 0.06, "b": 0.004, "c": None, "d": 0.06, "e": 0.6})
