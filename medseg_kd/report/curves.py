"""What runs logged, as curves side by side."""

import itertools
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from medseg_kd.errors import UserError, did_you_mean
from medseg_kd.files import whole_file
from medseg_kd.report.markdown import table

Curves = Mapping[str, Mapping[int, float]]
"""Name of a value to the values after each iteration that it was logged for."""
_COUNTERS = {"iter", "step", "epoch"}
_PICTURES = (".png", ".svg", ".pdf")


def read_curves(run: Path) -> Curves:
    """All that a run logged in training and validation, over all the times that it was resumed.

    What was trained again after a resume counts as it was the last time. Values of a validation that training has too
    (``time``) are those of the training; what is scored before the first iteration is the teacher.

    Raises:
        UserError: The folder holds no log of a training.
    """
    files = sorted(run.glob("*/vis_data/scalars.json"))
    curves: defaultdict[str, dict[int, float]] = defaultdict(dict)
    for file in files:
        entries = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        start = min((entry["step"] for entry in entries if "lr" in entry), default=None)
        if start is None:
            continue  # of a test
        for curve in curves.values():
            for step in [step for step in curve if step >= start]:
                del curve[step]
        trained = {name for entry in entries if "lr" in entry for name in entry}
        for entry in entries:
            for name in entry if "lr" in entry else entry.keys() - trained:
                if name not in _COUNTERS and entry["step"]:
                    curves[name][entry["step"]] = entry[name]
    if not curves:
        raise UserError(f"{run} holds no log of a training (<time>/vis_data/scalars.json): expected a run folder")
    return {name: dict(sorted(curve.items())) for name, curve in curves.items() if curve}


def last_values(runs: Mapping[str, Curves], keys: Sequence[str]) -> str:
    """A Markdown table of the last, the lowest and the highest of each value."""
    rows = [
        [name, key, str(max(curve)), *(f"{each:.4g}" for each in (curve[max(curve)], *_range(curve)))]
        for (name, curves), key in itertools.product(runs.items(), keys)
        if (curve := curves.get(key))
    ]
    return table(["run", "value", "iteration", "last", "lowest", "highest"], rows)


def _range(curve: Mapping[int, float]) -> tuple[float, float]:
    return min(curve.values()), max(curve.values())


def chosen_keys(runs: Mapping[str, Curves], keys: Sequence[str]) -> list[str]:
    """The values to show: the loss and its terms, scores and the learning rate, unless told otherwise.

    Raises:
        UserError: None of the runs logged one of them.
    """
    known = list(dict.fromkeys(name for curves in runs.values() for name in curves))
    for key in keys:
        if key not in known:
            raise UserError(f"--keys {key}: no run logged it{did_you_mean(key, known)}. There are {', '.join(known)}")
    return list(keys) or [name for name in known if "loss" in name or name == "lr" or re.match("m[A-Z]", name)]


def draw_curves(runs: Mapping[str, Curves], keys: Sequence[str], out: Path) -> None:
    """Draw a panel for each value with a line for each run, into a PNG, SVG or PDF file.

    Raises:
        UserError: The name of the file ends otherwise.
        WriteError: It cannot be written.
    """
    if out.suffix.lower() not in _PICTURES:
        raise UserError(f"{out}: expected a name that ends in {', '.join(_PICTURES)}")
    columns = min(3, len(keys))
    lines = -(-len(keys) // columns)
    figure = Figure(figsize=(5 * columns, 3.2 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).flat
    colours = {name: f"C{index}" for index, name in enumerate(runs)}
    for key, panel in itertools.zip_longest(keys, panels):
        panel.set_visible(key is not None)
        for name, curves in runs.items():
            curve = curves.get(key, {})
            panel.plot(list(curve), list(curve.values()), color=colours[name], marker="." if len(curve) < 20 else "")
        panel.set(title=key, xlabel="iteration")
    lines_of_runs = [Line2D([], [], color=colour) for colour in colours.values()]
    figure.legend(lines_of_runs, list(colours), loc="outside upper center")
    with whole_file(out) as draft:
        figure.savefig(draft, format=out.suffix[1:].lower(), dpi=150)
