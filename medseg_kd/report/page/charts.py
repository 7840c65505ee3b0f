"""Charts of a page, as SVG that takes colours and fonts from the page."""

import io
import itertools
import re
import unicodedata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from medseg_kd.report.curves import Curves

COLOURS = 8
"""Colours of runs; further runs take them again."""
MOST_POINTS = 4000
"""In one chart; of more cases only the boxes are drawn."""
_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
# Colours of a drawing that stand for variables of the page's style.
_VARIABLES = {f"#0000{number + 1:02x}": f"var(--run{number})" for number in range(COLOURS)}
_INK, _FAINT = "#000100", "#000200"
_VARIABLES |= {_INK: "var(--muted)", _FAINT: "var(--line)"}
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "medseg_kd",
    "text.parse_math": False,  # names may hold any sign
    "axes.formatter.useoffset": False,
    "font.size": 9,
    "axes.edgecolor": _FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
}
_numbers = itertools.count()


def curve_chart(name: str, runs: Mapping[str, Curves]) -> Markup:
    """A value that runs logged, a line for each run that has it."""
    with _axes(4.4, 2.3, left=0.6) as axes:
        said = []
        for number, (run, curves) in enumerate(runs.items()):
            if curve := curves.get(name):
                steps, values = list(curve), list(curve.values())
                axes.plot(steps, values, color=_colour(number), lw=1.6, marker="." if len(curve) < 20 else "")
                said.append(f"{run}: {values[0]:.4g} at iteration {steps[0]}, {values[-1]:.4g} at {steps[-1]}")
        axes.grid(axis="y")
        axes.set_xlabel("iteration")
        axes.set_axisbelow(True)
        return _svg(axes, f"{name} over the iterations. {'; '.join(said)}")


def strip_chart(title: str, cases: Sequence[str], organs: Sequence[str], runs: Mapping[str, np.ndarray]) -> Markup:
    """All cases of each organ: a point for each, a bar from quartile to quartile, a stroke at the median.

    Args:
        title: What is shown, with its unit.
        cases, organs: Names.
        runs: For each (cases, organs), nan without a value.
    """
    rows = len(organs) * len(runs)
    names = [_short(organ) for organ in organs]
    left = max(map(_inches, names), default=0) + 0.15
    with _axes(4.8, 0.7 + max(0.24 * len(organs), 0.17 * rows), left) as axes:
        titles: dict[str, list[str]] = {}
        for number, (run, values) in enumerate(runs.items()):
            for row, organ in enumerate(organs):
                known = np.flatnonzero(~np.isnan(values[:, row]))
                if not len(known):
                    continue
                height = row + (number + 0.5) / len(runs) * 0.8 - 0.4
                column = values[known, row]
                low, middle, high = np.percentile(column, [25, 50, 75])
                colour = _colour(number)
                axes.hlines(height, low, high, color=colour, lw=7 if len(runs) < 3 else 4, alpha=0.28)
                axes.scatter([middle], [height], marker="|", s=90 if len(runs) < 3 else 40, color=colour, linewidths=2)
                if values.size * len(runs) <= MOST_POINTS:
                    # Beside each other, in an order that has nothing to do with the values.
                    places = height + 0.5 / len(runs) * ((known * 0.618) % 1 - 0.5)
                    name = f"points-{number}-{row}"
                    axes.scatter(column, places, s=9, color=colour, alpha=0.75, linewidths=0, gid=name)
                    whose = f"{run}, " if len(runs) > 1 else ""
                    told = zip(known, column, strict=True)
                    titles[name] = [f"{whose}{cases[int(case)]}, {organ}: {value:.2f}" for case, value in told]
        axes.set_yticks(range(len(organs)), names)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(organs) - 0.5, -0.5)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.set_xlabel(title)
        return _svg(axes, f"{title} of each case and organ; the table beside it has the means", titles)


def histogram_chart(label: str, values: Mapping[str, np.ndarray]) -> Markup:
    """How often the values of several sets occur, on a logarithmic axis, in bins that they share.

    Args:
        label: What is shown, for those who do not see it.
        values: Name to numbers, not empty.
    """
    edges = np.histogram_bin_edges(np.concatenate([*values.values()]), 80)
    with _axes(4.4, 2.3, 0.62) as axes:
        for number, (name, each) in enumerate(values.items()):
            axes.stairs(np.histogram(each, edges)[0], edges, color=_colour(number), lw=1.4, label=name)
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.8)
        axes.yaxis.set_major_formatter("{x:,g}")
        axes.yaxis.set_minor_formatter(lambda value, place: "")
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.legend(frameon=False, fontsize=8)
        axes.set_xlabel("value")
        return _svg(axes, f"Histogram: {label}")


@contextmanager
def _axes(width: float, height: float, left: float) -> Iterator[Axes]:
    """Axes in the style of the page, in a figure of so many inches, with so many to the left for the numbers."""
    with rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser has fonts for it
        place = (left / width, 0.45 / height, 1 - (left + 0.1) / width, 1 - 0.53 / height)
        # Placed by hand: a layout engine draws everything twice more.
        yield Figure(figsize=(width, height)).add_axes(place, facecolor="none")


def _inches(text: str) -> float:
    """The width of a text, about: Chinese signs are twice as wide."""
    return sum(0.125 if unicodedata.east_asian_width(sign) in "WF" else 0.072 for sign in text)


def _short(name: str) -> str:
    """A name that leaves room for its values."""
    while _inches(name) > 2:
        name = name.removesuffix("…")[:-1] + "…"
    return name


def _colour(run: int) -> str:
    return [*_VARIABLES][run % COLOURS]


def _svg(axes: Axes, label: str, titles: Mapping[str, Sequence[str]] | None = None) -> Markup:
    """A figure as an element of a page.

    Args:
        axes: The drawing.
        label: What it shows, for those who do not see it.
        titles: For each group of points, by its id, what a pointer on them is told, in their order.
    """
    drawn = io.BytesIO()
    figure: Any = axes.get_figure()
    figure.patch.set_visible(False)
    FigureCanvasSVG(figure).print_svg(drawn, metadata=dict.fromkeys(["Creator", "Date", "Format", "Type"]))
    root = ElementTree.fromstring(drawn.getvalue())
    for name in ("width", "height"):
        root.attrib.pop(name)
    root.attrib |= {"role": "img", "aria-label": label, "focusable": "false"}
    prefix = f"c{next(_numbers)}-"
    needed = {each.get(_LINK, "").removeprefix("#") for each in root.iter()}
    needed |= {each.get("clip-path", "")[len("url(#") : -1] for each in root.iter()}
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
                parent.remove(child)
        for use, told in zip(parent.iter(f"{_SVG}use"), (titles or {}).get(parent.get("id", ""), ()), strict=False):
            ElementTree.SubElement(use, f"{_SVG}title").text = told
    for each in root.iter():
        name = each.attrib.pop("id", "")
        if name and name in needed:
            each.set("id", prefix + name)
        if _LINK in each.attrib:
            each.set("href", f"#{prefix}{each.attrib.pop(_LINK).removeprefix('#')}")
        if "clip-path" in each.attrib:
            each.set("clip-path", each.get("clip-path", "").replace("#", f"#{prefix}"))
        if "style" in each.attrib:
            style = re.sub(r"font: ([\d.]+px) [^;]*", r"font-size: \1", each.get("style", ""))
            style = re.sub(r"font-family: [^;]*; ", "", style)
            each.set("style", re.sub("#[0-9a-f]{6}", lambda found: _VARIABLES.get(found[0], found[0]), style))
    ElementTree.register_namespace("", _SVG[1:-1])
    return Markup(ElementTree.tostring(root, encoding="unicode"))
