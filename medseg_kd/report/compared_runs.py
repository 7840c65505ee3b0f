"""Tested runs side by side, as Markdown and LaTeX."""

import math
from collections.abc import Sequence

from medseg_kd.evaluation.bootstrap import RESAMPLES
from medseg_kd.evaluation.measures.base import Measure
from medseg_kd.evaluation.summary import unit_of
from medseg_kd.experiments.comparison import RunScores, differences
from medseg_kd.report.latex import escaped, tabular
from medseg_kd.report.markdown import table

Cell = tuple[str, bool]
"""Text, and whether no run has a better one as printed."""

OF_ABSENT = {
    "transunet": " This protocol gives them a distance of 0, and Dice 100 to an invented organ; see --protocol strict.",
    "strict": " They have no distance: a run that misses an organ is spared its HD95 there.",
}


METHOD = (
    f"Interval: bootstrap over the cases, {RESAMPLES} samples, percentile method, seed {{}}. "
    "p: Wilcoxon's signed-rank test, two-sided, not corrected for the number of tests. "
    "With fewer than 6 pairs the exact test cannot give p below 0.05."
)


def compared_runs(
    runs: Sequence[RunScores], protocol: str, metrics: Sequence[type[Measure]], latex: bool = False, seed: int = 0
) -> str:
    """The table of runs, then for each further run and metric the paired differences to the first, as Markdown.

    Args:
        runs: at least two, from :func:`read_runs`; the first is the baseline.
        protocol: the protocol of the scores.
        metrics: the metrics to show; the first is also shown for each organ.
        latex: add the table of runs for LaTeX.
        seed: seed of the bootstrap.
    """
    best = ", ".join(f"{'highest' if m.higher_is_better else 'lowest'} {m.title}" for m in metrics)
    header, rows = compared_cells(runs, metrics)
    parts = [
        f"Protocol {protocol}, {len(runs[0].cases)} case(s). {metrics[0].title} of each organ on the right. "
        f"Best in bold: {best}.",
        table(header, _marked(runs, rows, "**{}**")),
        absent_organs(runs, protocol),
    ]
    if latex:
        parts.append(_latex(runs, header, rows))
    for run in runs[1:]:
        for metric in metrics:
            heading, columns, lines = difference_cells(run, runs[0], metric, seed)
            parts += [heading, table(columns, lines)]
    parts.append(METHOD.format(seed))
    return "\n\n".join(parts) + "\n"


def absent_organs(runs: Sequence[RunScores], protocol: str) -> str:
    """How many organ-cases each run missed and invented, and what the protocol makes of them."""
    absent = "; ".join(f"{run.name} {run.missed} and {run.false_alarms}" for run in runs)
    said = OF_ABSENT[protocol] if any(run.missed or run.false_alarms for run in runs) else ""
    return f"Organ-cases missed and invented: {absent}.{said}"


def compared_cells(
    runs: Sequence[RunScores], metrics: Sequence[type[Measure]]
) -> tuple[list[str], list[tuple[Cell, ...]]]:
    """A header, and for each run the means of the metrics, then the first metric of each organ."""
    header = ["run", *(f"{m.title} ({_unit(m, runs[0])})" for m in metrics), *runs[0].organs]
    columns = [(metric, [run.mean(metric.key) for run in runs]) for metric in metrics]
    of_organs = zip(*(run.organ_means(metrics[0].key) for run in runs), strict=True)
    columns += [(metrics[0], list(column)) for column in of_organs]
    cells = []
    for metric, column in columns:
        numbers = [value for value in column if not math.isnan(value)]
        best = f"{max(numbers) if metric.higher_is_better else min(numbers):.2f}" if numbers else ""
        texts = ["-" if math.isnan(value) else f"{value:.2f}" for value in column]
        cells.append([(text, text == best) for text in texts])
    return header, list(zip(*cells, strict=True))


def _marked(runs: Sequence[RunScores], rows: Sequence[Sequence[Cell]], mark: str) -> list[list[str]]:
    """A line for each run, the best cells marked."""
    marked = [[mark.format(text) if best else text for text, best in row] for row in rows]
    return [[run.name, *row] for run, row in zip(runs, marked, strict=True)]


def difference_cells(
    run: RunScores, baseline: RunScores, metric: type[Measure], seed: int
) -> tuple[str, list[str], list[list[str]]]:
    """Heading, header and rows of a run's differences in one metric."""
    better = "above" if metric.higher_is_better else "below"
    rows = []
    for name, found in differences(run, baseline, metric.key, seed).items():
        interval = "{:+.2f} to {:+.2f}".format(*found.interval) if found.interval else "n/a: fewer than two pairs"
        p = f"{found.p:.4g}" if found.p is not None else "n/a: all pairs are equal" if found.pairs else "n/a: no pair"
        mean = "-" if math.isnan(found.mean) else f"{found.mean:+.2f}"
        rows.append([name, mean, interval, p, str(found.pairs), str(found.left_out)])
    heading = f"{run.name} minus {baseline.name}: {metric.title} ({_unit(metric, run)}), {better} 0 is better"
    return heading, ["organ", "difference", "95% interval", "p", "pairs", "left out"], rows


def _unit(metric: type[Measure], run: RunScores) -> str:
    return unit_of(metric, next(iter(run.units)))


def _latex(runs: Sequence[RunScores], header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """The table of runs for LaTeX."""
    lines = [[escaped(run), *cells] for run, *cells in _marked(runs, rows, r"\textbf{{{}}}")]
    return f"```latex\n{tabular([escaped(name) for name in header], lines)}\n```"
