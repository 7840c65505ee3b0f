"""Tables in Markdown."""

import statistics
from collections.abc import Iterable, Mapping, Sequence

from medseg_kd.experiments.runs import Run
from medseg_kd.experiments.sweep import Point


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, all columns but the first to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def mean_and_deviation(values: Sequence[float]) -> str:
    """``mean ± deviation``, the deviation that of a sample (n - 1); without it for a single value."""
    mean = f"{statistics.fmean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def sweep_table(keys: Sequence[str], runs: Mapping[Point, Sequence[Run]]) -> str:
    """Mean and deviation over the seeds for each point of a grid over config keys, one value a key."""
    rows = []
    for point, same in runs.items():
        found = [run.scores() for run in same]
        cells = [mean_and_deviation([each[name] for each in found]) for name in ("mDice", "mHD95")]
        rows.append([", ".join(point), *cells, str(len(same))])
    return table([", ".join(f"`{key}`" for key in keys), "Dice (%)", "HD95 (voxels)", "seeds"], rows)
