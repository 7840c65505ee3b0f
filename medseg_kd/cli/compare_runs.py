"""``tools/compare_runs.py``: tested runs side by side."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError
from ..evaluation.comparison import RESAMPLES, RunScores, differences, read_runs
from ..evaluation.measures.base import PROTOCOLS, Measure, kind_of
from ..evaluation.tables import markdown, unit_of

_Metrics = Sequence[type[Measure]]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table of the runs and their paired differences to the first.

    Args:
        argv: the arguments; None takes the command line's.

    Raises:
        UserError: the runs cannot be compared, or the text cannot be written.
    """
    parser = argparse.ArgumentParser(
        prog="compare_runs.py",
        description="Compare tested runs: a table as papers print it, and paired differences to the first run. A run "
        "is its folder (work_dirs/<config name>), its test folder or its per_case.csv.",
    )
    parser.add_argument("baseline", metavar="RUN_A", help="the run that the others are compared with")
    parser.add_argument("runs", nargs="+", metavar="RUN_B", help="the other runs")
    parser.add_argument("--protocol", choices=PROTOCOLS, default=PROTOCOLS[0], help=f"(default: {PROTOCOLS[0]})")
    parser.add_argument(
        "--measures",
        nargs="+",
        default=["Dice", "HD95"],
        help="what to compare, such as Dice, HD95 or my_measures.Recall; the first is also shown for each organ "
        "(default: Dice HD95)",
    )
    parser.add_argument("--latex", action="store_true", help="add the table for LaTeX (booktabs)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap (default: 0)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the text to a file too")
    args = parser.parse_args(argv)
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: expected 0 or more.")
    kinds = list(dict.fromkeys(map(kind_of, args.measures)))
    text = report(
        read_runs([args.baseline, *args.runs], args.protocol, kinds), args.protocol, kinds, args.latex, args.seed
    )
    print(text, end="")
    if args.out is not None:
        _write(args.out, text)


def report(
    runs: Sequence[RunScores], protocol: str, metrics: Sequence[type[Measure]], latex: bool = False, seed: int = 0
) -> str:
    """Everything about the runs, as Markdown.

    Args:
        runs: at least two, from :func:`read_runs`; the first is the baseline.
        protocol: the protocol of the scores.
        metrics: the metrics to show; the first is also shown for each organ.
        latex: add the table of runs for LaTeX.
        seed: seed of the bootstrap.

    Returns:
        The table of runs, then for each further run and metric the paired differences to the first.
    """
    organ_metric = metrics[0].title
    best = ", ".join(f"{'highest' if m.higher_is_better else 'lowest'} {m.title}" for m in metrics)
    absent = "; ".join(f"{run.name} {run.missed} and {run.false_alarms}" for run in runs)
    header, rows = _table(runs, metrics)
    parts = [
        f"Protocol {protocol}, {len(runs[0].cases)} case(s). {organ_metric} of each organ on the right. "
        f"Best in bold: {best}.",
        markdown(header, [[run.name, *_marked(row, "**{}**")] for run, row in zip(runs, rows, strict=True)]),
        f"Organ-cases missed and invented: {absent}.{_absent_convention(runs, protocol)}",
    ]
    if latex:
        parts.append(_latex(runs, header, rows))
    for run in runs[1:]:
        for metric in metrics:
            parts += _difference_part(run, runs[0], metric, seed)
    parts.append(
        f"Interval: bootstrap over the cases, {RESAMPLES} samples, percentile method, seed {seed}. "
        "p: Wilcoxon's signed-rank test, two-sided, not corrected for the number of tests. "
        "With fewer than 6 pairs the exact test cannot give p below 0.05."
    )
    return "\n\n".join(parts) + "\n"


def _table(
    runs: Sequence[RunScores], metrics: Sequence[type[Measure]]
) -> tuple[list[str], list[list[tuple[str, bool]]]]:
    """Header, and for each run its cells: text, and whether no run has a better one as printed."""
    header = ["run", *(f"{m.title} ({_unit(m, runs[0])})" for m in metrics), *runs[0].organs]
    columns = [[run.mean(metric.key) for run in runs] for metric in metrics]
    columns += [list(column) for column in zip(*(run.organ_means(metrics[0].key) for run in runs), strict=True)]
    cells = []
    for metric, column in zip([*metrics, *[metrics[0]] * len(runs[0].organs)], columns, strict=True):
        numbers = [value for value in column if not math.isnan(value)]
        best = f"{max(numbers) if metric.higher_is_better else min(numbers):.2f}" if numbers else ""
        texts = ["-" if math.isnan(value) else f"{value:.2f}" for value in column]
        cells.append([(text, text == best) for text in texts])
    return header, [list(row) for row in zip(*cells, strict=True)]


def _marked(row: Sequence[tuple[str, bool]], mark: str) -> list[str]:
    return [mark.format(text) if best else text for text, best in row]


def _absent_convention(runs: Sequence[RunScores], protocol: str) -> str:
    """What the protocol makes of absent organs, said where there are any."""
    if not any(run.missed or run.false_alarms for run in runs):
        return ""
    if protocol == "transunet":
        return " This protocol gives them a distance of 0, and Dice 100 to an invented organ; see --protocol strict."
    return " They have no distance: a run that misses an organ is spared its HD95 there."


def _difference_part(run: RunScores, baseline: RunScores, metric: type[Measure], seed: int) -> list[str]:
    """Heading and table of a run's differences in one metric."""
    better = "above" if metric.higher_is_better else "below"
    rows = []
    for name, found in differences(run, baseline, metric.key, seed).items():
        interval = "n/a: fewer than two pairs"
        if found.interval is not None:
            interval = f"{found.interval[0]:+.2f} to {found.interval[1]:+.2f}"
        p = f"{found.p:.4g}" if found.p is not None else "n/a: all pairs are equal" if found.pairs else "n/a: no pair"
        mean = "-" if math.isnan(found.mean) else f"{found.mean:+.2f}"
        rows.append([name, mean, interval, p, str(found.pairs), str(found.left_out)])
    return [
        f"{run.name} minus {baseline.name}: {metric.title} ({_unit(metric, run)}), {better} 0 is better",
        markdown(["organ", "difference", "95% interval", "p", "pairs", "left out"], rows),
    ]


def _unit(metric: type[Measure], run: RunScores) -> str:
    return unit_of(metric, next(iter(run.units)))


def _latex(runs: Sequence[RunScores], header: Sequence[str], rows: Sequence[Sequence[tuple[str, bool]]]) -> str:
    """The table of runs as a ``tabular`` with the rules of booktabs."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    escapes = str.maketrans({**special, **{c: f"\\{c}" for c in "&%$#_{}"}})
    lines = [
        [[name.translate(escapes) for name in header]],
        [[run.name.translate(escapes), *_marked(row, r"\textbf{{{}}}")] for run, row in zip(runs, rows, strict=True)],
    ]
    head, body = ("\n".join(" & ".join(line) + r" \\" for line in part) for part in lines)
    begin = rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}"
    table = "\n".join([begin, r"\toprule", head, r"\midrule", body, r"\bottomrule", r"\end{tabular}"])
    return f"```latex\n% needs \\usepackage{{booktabs}}\n{table}\n```"


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out {file} cannot be written: {error.strerror}.") from error
