"""Tested runs side by side: their scores, and paired differences with interval and test."""

import csv
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import stats

from medseg_kd.errors import UserError
from medseg_kd.evaluation.bootstrap import MEAN, RESAMPLES
from medseg_kd.evaluation.measures.base import DEFAULT, kind_of
from medseg_kd.evaluation.summary import nan_mean


@dataclass(frozen=True)
class RunScores:
    """Scores of one run under one protocol, as its ``per_case.csv`` holds them.

    Attributes:
        name: the run's folder, or the path as it was given where folders share a name.
        units: units of the distances; more than one only in a file that mixes them.
        values: for the key of each measure, (cases, organs), in percent where it is shown so, nan without a score.
        counts: {organ: how many cases are of each status}.
        options: {title of a measure that has some: its options in words}, as the ``metrics.json`` beside the file says.
    """

    name: str
    file: Path
    cases: tuple[str, ...]
    organs: tuple[str, ...]
    units: frozenset[str]
    values: Mapping[str, np.ndarray]
    counts: Mapping[str, Counter[str]]
    options: Mapping[str, str]

    @property
    def missed(self) -> int:
        """Organ-cases that the run missed."""
        return sum(count["missed"] for count in self.counts.values())

    @property
    def false_alarms(self) -> int:
        """Organ-cases that the run invented."""
        return sum(count["false_alarm"] for count in self.counts.values())

    def organ_means(self, metric: str) -> list[float]:
        """Mean over the cases for each organ, as in ``metrics.json``; not-a-number is left out."""
        return [nan_mean(column) for column in self.values[metric].T.tolist()]

    def mean(self, metric: str) -> float:
        """Mean of :meth:`organ_means`, as in ``metrics.json``."""
        return nan_mean(self.organ_means(metric))


@dataclass(frozen=True)
class Difference:
    """A run minus the baseline, over pairs.

    Attributes:
        mean: nan without a pair.
        interval: bootstrap 95% interval of the mean (percentile method); None with fewer than two pairs.
        p: two-sided p of Wilcoxon's signed-rank test; None where it is not defined.
        pairs: pairs in which both values are numbers; the others are ``left_out``.
    """

    mean: float
    interval: tuple[float, float] | None
    p: float | None
    pairs: int
    left_out: int


def read_runs(paths: Sequence[str | Path], protocol: str, metrics: Sequence[str | type]) -> list[RunScores]:
    """Read runs that are to be compared and bring their cases and organs into the order of the first.

    Args:
        paths: run folders, their test folders or the CSV files.
        protocol: ``transunet`` or ``strict``.
        metrics: what will be compared: titles, keys or paths of measures.

    Raises:
        UserError: a file is missing or not whole, the protocol is not in it, or the runs differ in cases, organs, or
            the unit or the options of what is compared.
    """
    compared = [kind_of(name) for name in metrics]
    keys = dict.fromkeys(kind.key for kind in (*map(kind_of, DEFAULT), *compared))
    runs = [read_scores(Path(path), protocol, keys) for path in paths]
    if len({run.name for run in runs}) < len(runs):
        runs = [replace(run, name=str(path)) for run, path in zip(runs, paths, strict=True)]
    different = len(frozenset().union(*(run.units for run in runs))) > 1
    if different and any(kind.unit == "distance" for kind in compared):
        found = "; ".join(f"{', '.join(sorted(run.units))} in {run.file}" for run in runs)
        raise UserError(
            f"the distances are in different units: {found}. Compare --measures Dice alone or --protocol transunet "
            "(always voxels), or test all runs on data that has its spacing."
        )
    for kind in compared:
        said = {run.options.get(kind.title, kind.title): run.file for run in runs}
        if len(said) > 1:
            found = "; ".join(f"{measure} in {file}" for measure, file in said.items())
            raise UserError(f"the runs were not measured alike: {found}. Measure all of them with the same options.")
    return [runs[0], *(_aligned(run, runs[0]) for run in runs[1:])]


def mean_of_runs(runs: Sequence[RunScores], name: str) -> RunScores:
    """One run whose scores are the means of several that are aligned, such as those of different seeds.

    Not-a-number is left out; missed and invented organs are summed.
    """
    mean = np.vectorize(lambda *scores: nan_mean(scores), otypes=[float])
    return replace(
        runs[0],
        name=name,
        values={metric: mean(*(run.values[metric] for run in runs)) for metric in runs[0].values},
        counts={organ: sum((run.counts[organ] for run in runs), Counter()) for organ in runs[0].organs},
    )


def paired_difference(values: np.ndarray, baseline: np.ndarray, seed: int = 0) -> Difference:
    """Compare (N,) scores of a run with those of the baseline for the same cases.

    The test is ``scipy.stats.wilcoxon`` with its defaults, the interval ``scipy.stats.bootstrap``, whose cases are
    drawn with the seed.
    """
    both = ~(np.isnan(values) | np.isnan(baseline))
    values, baseline = values[both], baseline[both]
    change = values - baseline
    interval = None
    if len(change) > 1:
        drawn = stats.bootstrap((change,), np.mean, n_resamples=RESAMPLES, method="percentile", random_state=seed)
        interval = (float(drawn.confidence_interval.low), float(drawn.confidence_interval.high))
    p = float(stats.wilcoxon(values, baseline).pvalue) if change.any() else None
    return Difference(nan_mean(change.tolist()), interval, p, len(change), len(both) - len(change))


def holm(values: Mapping[str, float | None]) -> dict[str, float | None]:
    """P values of several tests, corrected for their number by Holm's step-down method; None stays None."""
    known = sorted((p, name) for name, p in values.items() if p is not None)
    corrected, least = dict.fromkeys(values, None), 0.0
    for rank, (p, name) in enumerate(known):
        least = corrected[name] = min(1.0, max(least, p * (len(known) - rank)))
    return corrected


def differences(run: RunScores, baseline: RunScores, metric: str, seed: int = 0) -> dict[str, Difference]:
    """Compare a run with the baseline, to which it is aligned: the means of the cases, then organ by organ.

    The mean of a case is that over the organs for which both runs have a number, so that both means are of the same
    organs. The same cases are drawn for each organ that has all pairs.

    Returns:
        ``{"mean": ..., organ: ...}``.
    """
    both = run.values[metric], baseline.values[metric]
    missing = np.isnan(both[0]) | np.isnan(both[1])
    means = [np.array([nan_mean(case) for case in np.where(missing, np.nan, each).tolist()]) for each in both]
    pairs = zip((MEAN, *run.organs), (means[0], *both[0].T), (means[1], *both[1].T), strict=True)
    return {name: paired_difference(ours, theirs, seed) for name, ours, theirs in pairs}


def read_scores(path: Path, protocol: str, keys: Collection[str]) -> RunScores:
    """The scores of one run, see :func:`read_runs`, with the measures of these keys."""
    file = scores_file(path)
    columns, lines = read_rows(file)
    expected = ("protocol", "case", "class", *keys, "unit", "status")
    if lacking := [name for name in expected if name not in columns]:
        raise UserError(f"{file} lacks the columns {', '.join(lacking)}: expected the per_case.csv of test.py.")
    rows = [row for row in lines if row["protocol"] == protocol]
    if not rows:
        found = ", ".join(dict.fromkeys(str(row["protocol"]) for row in lines)) or "none"
        raise UserError(
            f"{file} does not hold the protocol {protocol}: found {found}. Choose another --protocol, or test with it "
            "in test_evaluator.protocols."
        )
    folder = file.absolute().parent
    name = (folder.parent if folder.name == "test" else folder).name
    run = scores_of_rows(rows, keys, name, file, f"{file}, protocol {protocol}")
    return replace(run, options=_options(file.with_name("metrics.json"), protocol))


def scores_file(path: Path) -> Path:
    """The ``per_case.csv`` of a run folder, of its test folder, or the file itself; a UserError where there is none."""
    file = next((each for each in (path, path / "per_case.csv", path / "test/per_case.csv") if each.is_file()), None)
    if file is None:
        state = "has no test/per_case.csv: it was not tested" if path.is_dir() else "is no run folder and no file"
        raise UserError(f"{path} {state}. Test the run: python test.py CONFIG --work-dir {path}")
    return file


def read_rows(file: Path) -> tuple[Sequence[str], list[dict[str, str]]]:
    """Columns and rows of a CSV file."""
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            columns, rows = reader.fieldnames or (), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} cannot be read as CSV: {error}. Write it again with test.py.") from error
    return columns, rows


def scores_of_rows(
    rows: Sequence[Mapping[str, str]], keys: Collection[str], name: str, file: Path, where: str
) -> RunScores:
    """Scores from rows of one run: a case and an organ each; ``where`` names them in messages."""
    cells = {(row["case"], row["class"]): row for row in rows}
    cases, organs = (tuple(dict.fromkeys(names)) for names in zip(*cells, strict=True))
    again = "Write it again with test.py."
    if not len(cells) == len(rows) == len(cases) * len(organs):
        found = f"{len(rows)} lines for {len(cases)} cases of {len(organs)} organs"
        raise UserError(f"{where}: {found}: expected one for each. {again}")
    try:
        values = {
            key: np.array([[float(cells[case, organ][key]) for organ in organs] for case in cases]) for key in keys
        }
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: a score is not a number: {error}. {again}") from error
    return RunScores(
        name=name,
        file=file,
        cases=cases,
        organs=organs,
        units=frozenset(row["unit"] for row in rows),
        values=values,
        counts={organ: Counter(cells[case, organ]["status"] for case in cases) for organ in organs},
        options={},
    )


def _options(file: Path, protocol: str) -> dict[str, str]:
    """Measures that are not what their title alone says; none where there is no such file."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))[protocol].get("measures", {})
    except (OSError, ValueError, KeyError, AttributeError):
        return {}


def _aligned(run: RunScores, baseline: RunScores) -> RunScores:
    """The run in the order of the baseline's cases and organs; both must be the same."""
    orders = []
    for kind in ("cases", "organs"):
        ours, theirs = getattr(run, kind), getattr(baseline, kind)
        if set(ours) != set(theirs):
            lists = [
                f"only in {file}: {', '.join(n for n in names if n not in others) or 'none'}"
                for file, names, others in ((baseline.file, theirs, ours), (run.file, ours, theirs))
            ]
            raise UserError(f"the runs have different {kind}; {'; '.join(lists)}. Test them on the same data.")
        orders.append([ours.index(name) for name in theirs])
    values = {metric: scores[np.ix_(*orders)] for metric, scores in run.values.items()}
    return replace(run, cases=baseline.cases, organs=baseline.organs, values=values)
