"""``tools/dev/seed_table.py``: tested runs of several seeds side by side, with paired differences to the first.

    python tools/dev/seed_table.py plain=work_dirs/plain_0,work_dirs/plain_1 KD=work_dirs/kd_0,work_dirs/kd_1

``tools/compare_methods.py`` makes runs of its own; this takes those that are there, however they were made.
"""

import argparse
from collections.abc import Sequence
from typing import Any

from medseg_kd.cli import run
from medseg_kd.errors import UserError
from medseg_kd.evaluation.measures.base import PROTOCOLS
from medseg_kd.experiments.comparison import MEAN, RunScores, differences, mean_of_runs, read_runs
from medseg_kd.report.markdown import mean_and_deviation, table

_METRICS = ("dice", "hd95")


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables.

    Args:
        argv: the arguments; None takes the command line's.

    Raises:
        UserError: a run cannot be read, or the runs cannot be compared.
    """
    parser = argparse.ArgumentParser(prog="seed_table.py", description="Compare tested runs of several seeds.")
    parser.add_argument("groups", nargs="+", type=_group, metavar="NAME=RUN,...", help="the first is the baseline")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="strict", help="(%(default)s)")
    arguments = parser.parse_args(argv)
    names = [name for name, _ in arguments.groups]
    if len(set(names)) < len(names):
        raise UserError(f"two groups share a name: {', '.join(names)}")
    found = iter(read_runs([path for _, paths in arguments.groups for path in paths], arguments.protocol, _METRICS))
    scores = {name: [next(found) for _ in paths] for name, paths in arguments.groups}
    means = {name: mean_of_runs(each, name) for name, each in scores.items()}
    rows = [[name, *_cells(scores[name], means[name], means[names[0]])] for name in names]
    print(
        table(["", "Dice (%)", "each run", "HD95", "missed, invented", "Dice to the first", "95% interval", "p"], rows)
    )
    organs = means[names[0]].organs
    print(table(["", *organs], [[name, *map("{:.2f}".format, means[name].organ_means("dice"))] for name in names]))


def _group(text: str) -> tuple[str, list[str]]:
    name, _, paths = text.partition("=")
    if not (name and paths):
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=RUN,RUN")
    return name, paths.split(",")


def _cells(runs: list[RunScores], mean: RunScores, baseline: RunScores) -> list[Any]:
    """Deviations are over the runs, difference, interval and p over the cases of their mean."""
    found = differences(mean, baseline, "dice")[MEAN]
    interval = "{:+.2f} to {:+.2f}".format(*found.interval) if found.interval else "n/a"
    dice, distance = (mean_and_deviation([run.mean(metric) for run in runs]) for metric in _METRICS)
    each = ", ".join(f"{run.mean('dice'):.2f}" for run in runs)
    compared = (
        ["", "", ""]
        if mean is baseline
        else [f"{found.mean:+.2f}", interval, "n/a" if found.p is None else f"{found.p:.2g}"]
    )
    return [dice, each, distance, f"{mean.missed}, {mean.false_alarms}", *compared]


if __name__ == "__main__":
    run(main)
