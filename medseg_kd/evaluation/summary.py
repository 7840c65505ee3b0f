"""Means over the cases of a test set, as text for a terminal or a log, and in two files."""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from prettytable import PrettyTable

from ..errors import some
from ..files import write_text
from .bootstrap import CAUTION, FEW, MEAN, METHOD, Interval, bootstrap
from .case import Scores
from .measures.base import DEFAULT, Measure, build_all

UNITS = {"voxel": "voxels", "mm": "mm"}


@dataclass(frozen=True)
class Summary:
    """Scores of a test set under one protocol.

    Attributes:
        protocol: ``transunet`` or ``strict``.
        unit: of the distances of all cases, ``voxel`` or ``mm``.
        cases: names and the scores behind the means.
        measures: what was measured.
        per_class: {organ: {title of a measure: mean over the cases that count}}, as shown; nan when none counts.
        mean: {title: mean over the organs that have a value}.
        counts: {organ: how many cases are of each status}.
        intervals: {title: {organ, and "mean": 95 % interval of its mean}}; empty where none were asked for.
        seed: of the intervals, or where it is told.
    """

    protocol: str
    unit: str
    cases: Sequence[tuple[str, Scores]]
    measures: Sequence[Measure]
    per_class: Mapping[str, Mapping[str, float]]
    mean: Mapping[str, float]
    counts: Mapping[str, Mapping[str, int]]
    intervals: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    seed: int | str | None = None

    def total(self, status: str) -> int:
        """Number of organ-cases of a status."""
        return sum(count[status] for count in self.counts.values())

    @property
    def heading(self) -> str:
        """Protocol, number of cases and units, such as ``protocol strict, 4 case(s): Dice in %; HD95 in mm``."""
        titles: dict[str, list[str]] = {}
        for measure in self.measures:
            titles.setdefault(unit_of(measure, self.unit), []).append(str(measure))
        units = [f"{', '.join(names)} in {unit}" for unit, names in titles.items()]
        return f"protocol {self.protocol}, {len(self.cases)} case(s): {'; '.join(units)}"

    @property
    def organ_cases(self) -> str:
        """How many organ-cases there are and how many of them lack the organ somewhere."""
        said = {"ok": "in both", "missed": "missed", "false_alarm": "false alarms", "empty": "empty in both"}
        numbers = [f"{self.total(status)} {words}" for status, words in said.items()]
        return f"{len(self.cases) * len(self.per_class)} organ-cases: {', '.join(numbers)}"

    @property
    def table(self) -> str:
        """A row for each organ and one for their mean, between heading and counts."""
        text = PrettyTable(["organ", *self.mean, "missed", "false alarms"], align="r")
        text.align["organ"] = "l"
        for name, values in self.per_class.items():
            count = self.counts[name]
            text.add_row([name, *map(_cell, values.values()), count["missed"], count["false_alarm"]])
        text.add_divider()
        text.add_row(["mean", *map(_cell, self.mean.values()), self.total("missed"), self.total("false_alarm")])
        return f"{self.heading}\n{text}\n{self.organ_cases}"

    @property
    def interval_lines(self) -> list[str]:
        """The intervals of the means over the organs, how they were found and what they are worth; none without."""
        if not self.intervals:
            return []
        found = "; ".join("{} {:.2f} to {:.2f}".format(title, *each[MEAN]) for title, each in self.intervals.items())
        return [
            f"95% interval of the mean: {found}",
            f"{METHOD} {self.seed}",
            *([CAUTION] if len(self.cases) < FEW else []),
        ]

    @property
    def lines(self) -> str:
        """One line for each metric, for the validation during training."""
        lines = [f"{self.heading}; {self.organ_cases}"]
        for title, mean in self.mean.items():
            organs = ", ".join(f"{name} {_cell(values[title])}" for name, values in self.per_class.items())
            lines.append(f"{title}: mean {_cell(mean)} ({organs})")
        return "\n".join(lines)


def summarise(
    protocol: str,
    unit: str,
    cases: Sequence[tuple[str, Scores]],
    organs: Iterable[str],
    metrics: Sequence[Any],
    seed: int | None = None,
) -> Summary:
    """Means over at least one case, then over organs; not-a-number is left out of each of them.

    With a seed, and two cases, they have intervals.
    """
    measures = build_all(metrics)
    per_class, counts = {}, {}
    for index, name in enumerate(organs, start=1):
        scores = [case[index] for _, case in cases]
        per_class[name] = {m.title: m.shown(nan_mean([float(score[m.key]) for score in scores])) for m in measures}
        counts[name] = Counter(str(score["status"]) for score in scores)
    mean = {m.title: nan_mean([values[m.title] for values in per_class.values()]) for m in measures}
    intervals: dict[str, Mapping[str, Interval]] = {}
    if seed is not None and len(cases) > 1:
        for each in measures:
            values = [[each.shown(float(score[each.key])) for score in scores.values()] for _, scores in cases]
            found = bootstrap(np.array(values), seed)
            intervals[each.title] = dict(zip([*per_class, MEAN], found, strict=True))
    return Summary(protocol, unit, cases, measures, per_class, mean, counts, intervals, seed)


def summarise_cases(
    protocols: Sequence[str],
    scores: Sequence[tuple[str, Mapping[str, Mapping[str, Scores]]]],
    organs: Iterable[str],
    metrics: Sequence[Any],
    seed: int | None = None,
) -> tuple[list[Summary], list[str]]:
    """Summaries of what :func:`~medseg_kd.evaluation.case.score_volumes` gave for each case, and what is to be said.

    Distances are in voxels under ``transunet``, else in mm, unless a case does not know its spacing.
    """
    summaries, said, organs = [], [], list(organs)
    for protocol in protocols:
        without = [case for case, found in scores if "mm" not in found[protocol]]
        unit = "voxel" if without else "mm"
        if 0 < len(without) < len(scores):
            said.append(
                f"{len(without)} of {len(scores)} cases have no spacing ({some(without)}): "
                f"all distances of protocol {protocol} are in voxels."
            )
        cases = [(case, found[protocol][unit]) for case, found in scores]
        summaries.append(summarise(protocol, unit, cases, organs, metrics, seed))
    return summaries, said


def unit_of(measure: Measure | type[Measure], unit: str) -> str:
    """The unit in which a measure is shown, where distances are in ``unit``."""
    return {"percent": "%", "distance": UNITS.get(unit, unit)}.get(measure.unit, measure.unit)


def nan_mean(values: Sequence[float]) -> float:
    """Mean of the values that are numbers; not-a-number when there is none."""
    numbers = [value for value in values if not math.isnan(value)]
    return math.fsum(numbers) / len(numbers) if numbers else math.nan


def write_metrics_json(path: Path, summaries: Sequence[Summary]) -> None:
    """Write the means of each protocol; not-a-number becomes null."""
    content = {}
    for summary in summaries:
        table: dict[str, Any] = {f"m{title}": value for title, value in _numbers(summary.mean).items()}
        table["per_class"] = {name: _numbers(values) for name, values in summary.per_class.items()}
        if summary.intervals:
            table["intervals"] = {
                title: {name: None if math.isnan(sum(each)) else each for name, each in found.items()}
                for title, found in summary.intervals.items()
            }
        if told := {m.title: str(m) for m in summary.measures if str(m) != m.title}:
            table["measures"] = told
        if summary.protocol == "strict":
            table |= {"missed": summary.total("missed"), "false_alarms": summary.total("false_alarm")}
        content[summary.protocol] = table
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_per_case_csv(path: Path, summaries: Sequence[Summary]) -> None:
    """Write one line for each protocol, case and organ; a score that was not measured or does not exist is ``nan``."""
    measured = build_all([*DEFAULT, *(each for each in summaries[0].measures if each.title not in DEFAULT)])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["protocol", "case", "class", *(each.key for each in measured), "unit", "status"])
    for summary in summaries:
        for case, scores in summary.cases:
            for name, score in zip(summary.per_class, scores.values(), strict=True):
                values = [repr(each.shown(float(score.get(each.key, math.nan)))) for each in measured]
                writer.writerow([summary.protocol, case, name, *values, summary.unit, score["status"]])
    write_text(path, text.getvalue())


def _numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    return {title: None if math.isnan(value) else value for title, value in values.items()}


def _cell(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"
