"""Tested runs side by side: their scores, and paired differences with interval and test."""

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import stats

from ..errors import UserError
from .measures.base import DEFAULT, kind_of
from .summary import nan_mean

RESAMPLES = 9999
"""Bootstrap samples behind an interval."""

MEAN = "mean"
"""Label of the row that compares the means of the cases."""


@dataclass(frozen=True)
class RunScores:
    """Scores of one run under one protocol, as its ``per_case.csv`` holds them.

    Attributes:
        name: the run's folder, or the path as it was given where folders share a name.
        file: the file that was read.
        cases: names, in the order of the rows of ``values``.
        organs: names, in the order of the columns of ``values``.
        units: units of the distances; more than one only in a file that mixes them.
        values: for the key of each measure, (cases, organs), in percent where it is shown so, nan without a score.
        missed: organ-cases that the run missed.
        false_alarms: organ-cases that the run invented.
    """

    name: str
    file: Path
    cases: tuple[str, ...]
    organs: tuple[str, ...]
    units: frozenset[str]
    values: Mapping[str, np.ndarray]
    missed: int
    false_alarms: int

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
        mean: mean of the differences; nan without a pair.
        interval: bootstrap 95% interval of the mean (percentile method); None with fewer than two pairs.
        p: two-sided p of Wilcoxon's signed-rank test; None where it is not defined.
        pairs: pairs in which both values are numbers.
        left_out: the other pairs.
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

    Returns:
        One entry for each path.

    Raises:
        UserError: a file is missing or not whole, the protocol is not in it, or the runs differ in cases, organs or
            the unit of a distance that is compared.
    """
    kinds = [kind_of(name) for name in (*DEFAULT, *metrics)]
    keys = dict.fromkeys(kind.key for kind in kinds)
    runs = [_read(_find(Path(path)), protocol, keys) for path in paths]
    if len({run.name for run in runs}) < len(runs):
        runs = [replace(run, name=str(path)) for run, path in zip(runs, paths, strict=True)]
    if any(kind.unit == "distance" for kind in kinds[len(DEFAULT) :]):
        _check_units(runs)
    return [runs[0], *(_aligned(run, runs[0]) for run in runs[1:])]


def mean_of_runs(runs: Sequence[RunScores], name: str) -> RunScores:
    """One run whose scores are the means of several, such as those of different seeds.

    Args:
        runs: aligned with each other (see :func:`read_runs`).
        name: of the result.

    Returns:
        The mean over the runs of each case and organ, not-a-number left out; missed and invented organs are summed.
    """
    values = {
        metric: np.vectorize(lambda *scores: nan_mean(scores), otypes=[float])(*(run.values[metric] for run in runs))
        for metric in runs[0].values
    }
    return replace(
        runs[0],
        name=name,
        values=values,
        missed=sum(run.missed for run in runs),
        false_alarms=sum(run.false_alarms for run in runs),
    )


def paired_difference(values: np.ndarray, baseline: np.ndarray, seed: int = 0) -> Difference:
    """Compare paired values.

    Args:
        values: (N,) scores of a run.
        baseline: (N,) scores of the baseline for the same cases.
        seed: seed of the bootstrap, which draws cases with replacement.

    Returns:
        The difference; the test is ``scipy.stats.wilcoxon`` with its defaults, the interval ``scipy.stats.bootstrap``.
    """
    both = ~(np.isnan(values) | np.isnan(baseline))
    values, baseline = values[both], baseline[both]
    change = values - baseline
    pairs, interval, p = len(change), None, None
    if pairs > 1:
        low, high = stats.bootstrap(
            (change,), np.mean, n_resamples=RESAMPLES, method="percentile", random_state=seed
        ).confidence_interval
        interval = (float(low), float(high))
    if change.any():
        p = float(stats.wilcoxon(values, baseline).pvalue)
    return Difference(nan_mean(change.tolist()), interval, p, pairs, len(both) - pairs)


def differences(run: RunScores, baseline: RunScores, metric: str, seed: int = 0) -> dict[str, Difference]:
    """Compare a run with the baseline: the means of the cases, then organ by organ.

    The mean of a case is that over the organs for which both runs have a number, so that both means are of the same
    organs.

    Args:
        run: the run, aligned with the baseline (see :func:`read_runs`).
        baseline: the run it is compared with.
        metric: key of the measure.
        seed: seed of the bootstrap; the same cases are drawn for each organ that has all pairs.

    Returns:
        ``{"mean": ..., organ: ...}``.
    """
    ours, theirs = run.values[metric], baseline.values[metric]
    missing = np.isnan(ours) | np.isnan(theirs)
    our_means, their_means = (
        np.array([nan_mean(case) for case in np.where(missing, np.nan, scores).tolist()]) for scores in (ours, theirs)
    )
    found = {MEAN: paired_difference(our_means, their_means, seed)}
    for index, organ in enumerate(run.organs):
        found[organ] = paired_difference(ours[:, index], theirs[:, index], seed)
    return found


def _find(path: Path) -> Path:
    """The CSV of a run that is given by any of its three names."""
    candidates = [path] if path.is_file() else [path / "per_case.csv", path / "test" / "per_case.csv"]
    for file in candidates:
        if file.is_file():
            return file
    state = "has no test/per_case.csv: it was not tested" if path.is_dir() else "is no run folder and no file"
    raise UserError(f"{path} {state}. Test the run: python test.py CONFIG --work-dir {path}")


def _read(file: Path, protocol: str, keys: Collection[str]) -> RunScores:
    """The scores of one protocol."""
    again = "Write it again with test.py"
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            lines = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} cannot be read as CSV: {error}. {again}.") from error
    expected = ("protocol", "case", "class", *keys, "unit", "status")
    if lacking := [name for name in expected if name not in (reader.fieldnames or ())]:
        raise UserError(f"{file} lacks the columns {', '.join(lacking)}: expected the per_case.csv of test.py.")
    rows = [row for row in lines if row["protocol"] == protocol]
    if not rows:
        found = ", ".join(dict.fromkeys(str(row["protocol"]) for row in lines)) or "none"
        raise UserError(
            f"{file} does not hold the protocol {protocol}: found {found}. Choose another --protocol, or test with it "
            "in test_evaluator.protocols."
        )
    cases, organs = (tuple(dict.fromkeys(str(row[key]) for row in rows)) for key in ("case", "class"))
    cells = {(row["case"], row["class"]): row for row in rows}
    if not len(cells) == len(rows) == len(cases) * len(organs):
        raise UserError(
            f"{file}, protocol {protocol}: {len(rows)} lines for {len(cases)} cases of {len(organs)} organs: expected "
            f"one for each. {again}."
        )
    try:
        values = {m: np.array([[float(cells[c, o][m]) for o in organs] for c in cases]) for m in keys}
    except (TypeError, ValueError) as error:
        raise UserError(f"{file}, protocol {protocol}: a score is not a number: {error}. {again}.") from error
    folder = file.absolute().parent
    status = [row["status"] for row in rows]
    return RunScores(
        name=(folder.parent if folder.name == "test" else folder).name,
        file=file,
        cases=cases,
        organs=organs,
        units=frozenset(str(row["unit"]) for row in rows),
        values=values,
        missed=status.count("missed"),
        false_alarms=status.count("false_alarm"),
    )


def _check_units(runs: Sequence[RunScores]) -> None:
    """Refuse distances of more than one unit."""
    if len(frozenset().union(*(run.units for run in runs))) > 1:
        found = "; ".join(f"{', '.join(sorted(run.units))} in {run.file}" for run in runs)
        raise UserError(
            f"the distances are in different units: {found}. Compare --measures Dice alone or --protocol transunet "
            "(always voxels), or test all runs on data that has its spacing."
        )


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
