"""Means over the cases of a test set, and the two files that hold them."""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import write_text
from .case import METRICS, STATUSES, Scores

TITLES = {"dice": "Dice", "jaccard": "Jaccard", "hd95": "HD95", "asd": "ASD"}
"""Name of each metric in tables, JSON and configs; the keys are those of ``score_case``."""

PERCENT = ("dice", "jaccard")
"""Metrics that are fractions in functions and percent in tables and files."""


@dataclass(frozen=True)
class CaseScores:
    """Scores of one case under one protocol, in the unit in which its distances were measured."""

    case: str
    unit: str
    scores: Scores


@dataclass(frozen=True)
class Summary:
    """Scores of a test set under one protocol.

    Attributes:
        protocol: ``transunet`` or ``strict``.
        unit: unit of the distances, ``voxel`` or ``mm``.
        cases: the scores behind the means.
        per_class: {organ: {metric: mean over the cases that count}}, Dice and Jaccard in percent; nan when none counts.
        mean: {metric: mean over the organs that have a value}.
        counts: {organ: how many cases are of each status}.
    """

    protocol: str
    unit: str
    cases: Sequence[CaseScores]
    per_class: Mapping[str, Mapping[str, float]]
    mean: Mapping[str, float]
    counts: Mapping[str, Mapping[str, int]]

    def total(self, status: str) -> int:
        """Number of organ-cases of a status."""
        return sum(count[status] for count in self.counts.values())


def summarise(protocol: str, cases: Sequence[CaseScores], classes: Sequence[str], metrics: Sequence[str]) -> Summary:
    """Means over cases, then over organs.

    Args:
        protocol: the protocol that gave the scores.
        cases: at least one case, all in one unit.
        classes: class names, the first is background.
        metrics: the metrics that were measured, named as in ``score_case``.

    Returns:
        The means; not-a-number is left out of each of them.
    """
    per_class, counts = {}, {}
    for index, name in enumerate(classes[1:], start=1):
        scores = [case.scores[index] for case in cases]
        per_class[name] = {m: shown(m, nan_mean([float(score[m]) for score in scores])) for m in metrics}
        seen = Counter(str(score["status"]) for score in scores)
        counts[name] = {status: seen[status] for status in STATUSES}
    mean = {m: nan_mean([values[m] for values in per_class.values()]) for m in metrics}
    return Summary(protocol, cases[0].unit, cases, per_class, mean, counts)


def shown(metric: str, value: float) -> float:
    """A score as tables and files give it: Dice and Jaccard in percent, distances as they are."""
    return 100.0 * value if metric in PERCENT else value


def nan_mean(values: Sequence[float]) -> float:
    """Mean of the values that are numbers; not-a-number when there is none."""
    numbers = [value for value in values if not math.isnan(value)]
    return math.fsum(numbers) / len(numbers) if numbers else math.nan


def write_metrics_json(path: Path, summaries: Sequence[Summary]) -> None:
    """Write the means of each protocol; not-a-number becomes null."""
    content: dict[str, Any] = {}
    for summary in summaries:
        table: dict[str, Any] = {f"m{TITLES[m]}": _number(value) for m, value in summary.mean.items()}
        table["per_class"] = {
            name: {TITLES[m]: _number(value) for m, value in values.items()}
            for name, values in summary.per_class.items()
        }
        if summary.protocol == "strict":
            table["missed"] = summary.total("missed")
            table["false_alarms"] = summary.total("false_alarm")
        content[summary.protocol] = table
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_per_case_csv(path: Path, summaries: Sequence[Summary]) -> None:
    """Write one line for each protocol, case and organ; a score that was not measured or does not exist is ``nan``."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["protocol", "case", "class", *METRICS, "unit", "status"])
    for summary in summaries:
        for case in summary.cases:
            for index, name in enumerate(summary.per_class, start=1):
                score = case.scores[index]
                values = [repr(shown(m, float(score.get(m, math.nan)))) for m in METRICS]
                writer.writerow([summary.protocol, case.case, name, *values, case.unit, score["status"]])
    write_text(path, text.getvalue())


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
