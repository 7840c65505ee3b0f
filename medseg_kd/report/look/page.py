"""``browse_train.html``: what :func:`~medseg_kd.report.look.batches.browse` found, in one file without a network."""

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medseg_kd.datasets.intensities import Intensity
from medseg_kd.datasets.spec import IGNORED
from medseg_kd.errors import UserError
from medseg_kd.files import write_text
from medseg_kd.report.look.batches import Browsed, count_classes
from medseg_kd.report.look.pictures import css, slice_pictures
from medseg_kd.report.page.charts import histogram_chart
from medseg_kd.report.page.rendering import LIMIT, rendered

_SIDES = (512, 384, 256, 192, 128, 96, 64)
"""Longest side of a picture: the first with which the page keeps within its limit."""
_MOST_VALUES = 200_000
"""Of a channel in a histogram."""


def write_look_page(browsed: Browsed, out: Path, title: str, about: Sequence[tuple[str, str]]) -> list[str]:
    """Write the page, and return the classes and regions that no slice of the data set has.

    Args:
        browsed: What was drawn.
        out: The file.
        title: What was browsed.
        about: Names and values to show beside those of the data.

    Raises:
        UserError: There is no slice, or the pictures do not fit into a page.
        WriteError: The file cannot be written.
    """
    if not browsed.slices:
        raise UserError(f"{title}: the loader gives no batch (drop_last with fewer slices than batch_size?)")
    classes, counted = _class_rows(browsed)
    named, middle = _named_rules(browsed)
    sizes = sorted({each.seen[0].shape[-2:] for each in browsed.slices})
    content: dict[str, Any] = {
        "title": title,
        "about": [
            ("data", str(getattr(browsed.loader.dataset, "data_root", "of its own class"))),
            ("slices with labels", f"{counted:,}"),
            ("batch size", str(browsed.loader.batch_size or "by a batch sampler")),
            ("the network gets", ", ".join(f"{len(named)} x {height} x {width}" for height, width in sizes)),
            ("augmentation", str(browsed.preprocessor.augmentation or "none")),
            *about,
        ],
        "notes": browsed.notes,
        "counted": counted,
        "classes": classes,
        "channels": [_channel(browsed, own, number, *named[number]) for own, number in enumerate(middle)],
        "planes": [name for name, _ in named],
        "pads": any((each.seen[1] == IGNORED).any() for each in browsed.slices if each.seen[1] is not None),
    }
    for side in _SIDES:
        pictures = slice_pictures(browsed, [rule for _, rule in named], middle, side)
        batches = [list(group) for _, group in itertools.groupby(pictures, key=lambda each: each["batch"])]
        text = rendered("look.html", batches=batches, **content)
        if len(text.encode()) <= LIMIT:
            write_text(out, text)
            return [row["name"] for row in classes if not row["slices"]]
    raise UserError(f"{len(browsed.slices)} slices do not fit into a page of {LIMIT:,} bytes: lower --batches")


def _class_rows(browsed: Browsed) -> tuple[list[dict[str, Any]], int]:
    """Of each class and region its pixels and the slices that have it; and the number of slices."""
    regions = {} if browsed.spec is None else {name: list(each) for name, each in browsed.spec.regions.items()}
    pixels, having, slices = np.zeros(256, np.int64), np.zeros(256, np.int64), 0
    with_region = dict.fromkeys(regions, 0)
    for found in count_classes(browsed.loader.dataset):
        pixels, having, slices = pixels + found, having + (found > 0), slices + 1
        for name, members in regions.items():
            with_region[name] += bool(found[members].any())
    if not slices:
        return [], 0
    names = dict(enumerate(browsed.classes)) or {int(each): f"class {each}" for each in np.flatnonzero(pixels)}
    if pixels[IGNORED] and IGNORED not in names:
        names[IGNORED] = "ignored"
    total = pixels.sum()

    def row(name: str, shown: str, count: int, found: int) -> dict[str, Any]:
        shares = {"share": 100 * count / total, "part": 100 * found / slices}
        return {"name": name, "colour": shown, "pixels": int(count), "slices": int(found), **shares}

    rows = [row(name, css(value), pixels[value], having[value]) for value, name in names.items()]
    for name, members in regions.items():
        text = f"region {name} ({', '.join(names[each] for each in members)})"
        rows.append(row(text, "", pixels[members].sum(), with_region[name]))
    return rows, slices


def _named_rules(browsed: Browsed) -> tuple[list[tuple[str, Intensity]], range]:
    """Name and rule of each channel of the network's input, and those that are the slice itself."""
    spec, count = browsed.spec, len(browsed.slices[0].seen[0])
    if spec is None or spec.num_channels != count:
        return [(f"channel {number + 1}", Intensity()) for number in range(count)], range(count)
    around, own = range(-spec.neighbours, spec.neighbours + 1), len(spec.channels)
    pairs = itertools.product(around, spec.channels)
    named = [(each.name + (f" of slice {place:+}" if place else ""), each.intensity) for place, each in pairs]
    return named, range(spec.neighbours * own, (spec.neighbours + 1) * own)


def _channel(browsed: Browsed, own: int, number: int, name: str, rule: Intensity) -> dict[str, Any]:
    """A channel's rule, its values before and after it, and their histograms."""
    raw = _sample(each.raw[own] for each in browsed.slices if each.raw is not None)
    values = {"in the files": raw, "after the rule": _sample(each.plain[0][number] for each in browsed.slices)}
    if any(each.seen is not each.plain for each in browsed.slices):
        values["augmented"] = _sample(each.seen[0][number] for each in browsed.slices)
    rows = [(what, f"{each.min():.5g} to {each.max():.5g}") for what, each in values.items() if len(each)]
    low, high = rule.numbers(np.zeros(1))[:2] if rule.fixed else (-math.inf, math.inf)
    if len(raw) and math.isfinite(high - low):
        rows.append(("clipped", f"{(raw < low).mean():.1%} below {low:g}, {(raw > high).mean():.1%} above {high:g}"))
    charts = [
        histogram_chart(f"{name}, {' and '.join(shown)}", shown)
        for shown in ({"in the files": raw}, {what: each for what, each in values.items() if what != "in the files"})
        if all(map(len, shown.values()))
    ]
    return {"name": name, "rule": "not known" if type(rule) is Intensity else str(rule), "rows": rows, "charts": charts}


def _sample(planes: Iterator[np.ndarray]) -> np.ndarray:
    """Values of planes of any size, evenly taken where they are too many."""
    found = [np.asarray(each, np.float32).ravel() for each in planes]
    values = np.concatenate(found) if found else np.empty(0, np.float32)
    return values[:: max(1, len(values) // _MOST_VALUES)]
