"""The scores of a test set as text for a terminal or a log."""

import math

from prettytable import PrettyTable

from medseg_kd.evaluation.measures.base import Measure
from medseg_kd.evaluation.summary import Summary

UNITS = {"voxel": "voxels", "mm": "mm"}


def table(summary: Summary) -> str:
    """A row for each organ and one for their mean, with a heading that says the units and a line of counts."""
    text = PrettyTable(["organ", *summary.mean, "missed", "false alarms"], align="r")
    text.align["organ"] = "l"
    for name, values in summary.per_class.items():
        count = summary.counts[name]
        text.add_row([name, *map(_cell, values.values()), count["missed"], count["false_alarm"]])
    text.add_divider()
    totals = [summary.total("missed"), summary.total("false_alarm")]
    text.add_row(["mean", *map(_cell, summary.mean.values()), *totals])
    return f"{_heading(summary)}\n{text}\n{_counts(summary)}"


def line(summary: Summary) -> str:
    """All on one line per metric, for the validation during training."""
    lines = [f"{_heading(summary)}; {_counts(summary)}"]
    for title, mean in summary.mean.items():
        organs = ", ".join(f"{name} {_cell(values[title])}" for name, values in summary.per_class.items())
        lines.append(f"{title}: mean {_cell(mean)} ({organs})")
    return "\n".join(lines)


def unit_of(measure: Measure | type[Measure], unit: str) -> str:
    """The unit in which a measure is shown, where distances are in ``unit``."""
    return {"percent": "%", "distance": UNITS.get(unit, unit)}.get(measure.unit, measure.unit)


def _heading(summary: Summary) -> str:
    """Protocol, number of cases and units, such as ``protocol transunet, 4 cases: Dice in %; HD95 in voxels``."""
    titles: dict[str, list[str]] = {}
    for measure in summary.measures:
        titles.setdefault(unit_of(measure, summary.unit), []).append(str(measure))
    units = [f"{', '.join(names)} in {unit}" for unit, names in titles.items()]
    return f"protocol {summary.protocol}, {len(summary.cases)} case(s): {'; '.join(units)}"


def _counts(summary: Summary) -> str:
    """How many organ-cases there are and how many of them lack the organ somewhere."""
    return (
        f"{len(summary.cases) * len(summary.per_class)} organ-cases: {summary.total('ok')} in both, "
        f"{summary.total('missed')} missed, {summary.total('false_alarm')} false alarms, "
        f"{summary.total('empty')} empty in both"
    )


def _cell(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"
