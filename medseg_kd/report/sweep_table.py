"""The table of ``tools/sweep.py``."""

from collections.abc import Mapping, Sequence

from medseg_kd.experiments.runs import Run
from medseg_kd.experiments.sweep import Point
from medseg_kd.report.markdown import mean_and_deviation, table


def sweep_table(keys: Sequence[str], runs: Mapping[Point, Sequence[Run]]) -> str:
    """Mean and deviation over the seeds for each point of the grid, as Markdown.

    Args:
        keys: The config keys.
        runs: For each point, one value a key, its tested runs.
    """
    rows = []
    for point, same in runs.items():
        found = [run.scores() for run in same]
        cells = [mean_and_deviation([each[name] for each in found]) for name in ("mDice", "mHD95")]
        rows.append([", ".join(point), *cells, str(len(same))])
    return table([", ".join(f"`{key}`" for key in keys), "Dice (%)", "HD95 (voxels)", "seeds"], rows)
