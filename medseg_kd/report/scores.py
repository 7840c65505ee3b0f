"""Scores of a test set as Markdown and LaTeX, with their intervals."""

import math
from collections.abc import Sequence
from pathlib import Path

from medseg_kd.errors import UserError
from medseg_kd.evaluation.bootstrap import MEAN
from medseg_kd.evaluation.summary import Summary, unit_of, write_metrics_json, write_per_case_csv
from medseg_kd.files import write_text
from medseg_kd.report.latex import escaped, tabular
from medseg_kd.report.markdown import table


def scores_page(summaries: Sequence[Summary], notes: Sequence[str] = ()) -> str:
    """Markdown: for each protocol a table with a row for each organ, its intervals, and what is to be said."""
    parts = [f"Note: {note}" for note in notes]
    for summary in summaries:
        header, rows = score_cells(summary, "{} ({} to {})")
        parts += [summary.heading, table(header, rows), summary.organ_cases, " ".join(summary.interval_lines)]
    return "\n\n".join(filter(None, parts)) + "\n"


def scores_latex(summaries: Sequence[Summary]) -> str:
    """The same tables for LaTeX, each below a comment that says what it shows."""
    parts = []
    for summary in summaries:
        header, rows = score_cells(summary, "{} ({}--{})")
        lines = [[escaped(cell) for cell in row] for row in (header, *rows)]
        said = "".join(f"% {line}\n" for line in (summary.heading, *summary.interval_lines))
        parts.append(said + tabular(lines[0], lines[1:]))
    return "\n\n".join(parts) + "\n"


def write_scores(folder: Path, summaries: Sequence[Summary], notes: Sequence[str] = ()) -> list[Path]:
    """Write ``metrics.json`` and ``per_case.csv`` as test.py does, ``scores.md`` and ``scores.tex``.

    Raises:
        UserError: a file cannot be written.
    """
    files = [folder / name for name in ("metrics.json", "per_case.csv", "scores.md", "scores.tex")]
    try:
        write_metrics_json(files[0], summaries)
        write_per_case_csv(files[1], summaries)
        write_text(files[2], scores_page(summaries, notes))
        write_text(files[3], scores_latex(summaries))
    except OSError as error:
        raise UserError(f"cannot write into {folder}: {error.strerror}. Choose another --out") from error
    return files


def score_cells(summary: Summary, form: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a summary; ``form`` of a mean and the two ends of its interval."""
    header = ["organ", *(f"{m} ({unit_of(m, summary.unit)})" for m in summary.measures), "missed", "false alarms"]
    rows = []
    for name, values in [*summary.per_class.items(), (MEAN, summary.mean)]:
        cells = []
        for title, value in values.items():
            numbers = [value, *summary.intervals.get(title, {}).get(name, ())]
            texts = ["-" if math.isnan(each) else f"{each:.2f}" for each in numbers]
            cells.append(form.format(*texts) if len(texts) == 3 else texts[0])
        counts = summary.counts.get(name) or {key: summary.total(key) for key in ("missed", "false_alarm")}
        rows.append([name, *cells, str(counts["missed"]), str(counts["false_alarm"])])
    return header, rows
