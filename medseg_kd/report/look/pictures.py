"""Slices as a page holds them: what the network gets as grey or colour, and the labels that lie on it."""

import base64
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image, features

from medseg_kd.datasets.intensities import RGB8, Intensity, Stored
from medseg_kd.engine.visualization import outlines
from medseg_kd.evaluation.label_tables import colour
from medseg_kd.report.look.batches import Browsed, Slice

MOST_PLANES = 4
"""Of a slice beside each other; of more channels those of the slice itself are shown."""
_FILL, _EDGE = 60, 255
PALETTE = np.array([*map(colour, range(255)), (255, 255, 255)], np.uint8)
"""Colours of label values; ignored pixels are white."""


def slice_pictures(browsed: Browsed, rules: Sequence[Intensity], middle: range, side: int) -> Iterator[dict[str, Any]]:
    """Name, batch, number of planes and pictures of each slice, before augmentation and after it.

    Args:
        browsed: The slices.
        rules: Of the channels of the network's input.
        middle: Those channels that are the slice itself, without its neighbours.
        side: Longest side of a plane, in pixels; smaller ones keep their size.
    """
    low, high = zip(*(_ends(browsed.slices, number, rule) for number, rule in enumerate(rules)), strict=True)
    own = rules[middle.start : middle.stop]
    if len(own) == 3 and (browsed.spec is None or all(isinstance(rule, RGB8) for rule in own)):
        shown = [[*middle]]
    else:
        shown = [[number] for number in (range(len(rules)) if len(rules) <= MOST_PLANES else middle[:MOST_PLANES])]
    for each in browsed.slices:
        states = {"as the network gets it": each.seen}
        if each.seen is not each.plain:
            states = {"before augmentation": each.plain, **states}
        pictures = []
        for what, (image, labels) in states.items():
            drawn, lying = _drawn(image, labels, shown, (low, high), side)
            pictures.append({"what": what, "image": drawn, "labels": lying})
        yield {"name": each.name, "batch": each.batch, "planes": len(shown), "pictures": pictures}


def _drawn(
    image: np.ndarray, labels: np.ndarray | None, shown: Sequence[list[int]], ends: Any, side: int
) -> tuple[str, str]:
    """Addresses of a picture of the planes of (C, H, W) beside each other, and of one of the labels on all of them."""
    low, high = (np.array(end, np.float32)[:, None, None] for end in ends)
    bytes_ = (255 * (image - low) / np.maximum(high - low, 1e-6)).clip(0, 255).astype(np.uint8)
    factor = min(1.0, side / max(image.shape[1:]))
    size = tuple(max(1, round(factor * each)) for each in image.shape[:0:-1])
    planes = []
    for numbers in shown:
        plane = np.moveaxis(bytes_[numbers], 0, -1) if len(numbers) == 3 else bytes_[numbers[0]]
        planes.append(np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BILINEAR)))
    kind = "webp" if features.check("webp") else "jpeg"
    picture = _address(Image.fromarray(np.concatenate(planes, axis=1)), kind, quality=85)
    if labels is None:
        return picture, ""
    values = np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))
    opacity = np.where(outlines(values), _EDGE, np.where(values > 0, _FILL, 0)).astype(np.uint8)
    lying = np.concatenate([np.dstack([PALETTE[values], opacity])] * len(shown), axis=1)
    return picture, _address(Image.fromarray(lying), "png", optimize=True)


def _ends(slices: Sequence[Slice], number: int, rule: Intensity) -> tuple[float, float]:
    """The values of a channel that are shown black and white."""
    if isinstance(rule, Stored):
        return 0.0, 1.0
    low, high, shift, scale = rule.numbers(np.zeros(1)) if rule.fixed else (-math.inf, math.inf, 0.0, 1.0)
    if math.isfinite(high - low):
        return (low - shift) / scale, (high - shift) / scale
    few = np.concatenate([each.plain[0][number, ::4, ::4].ravel() for each in slices])
    dark, bright = np.percentile(few, [0.5, 99.5]).tolist()
    return dark, bright


def css(value: int) -> str:
    """The colour of a label value in a style sheet."""
    return "#{:02x}{:02x}{:02x}".format(*PALETTE[value]) if value else "transparent"


def _address(image: Image.Image, kind: str, **options: Any) -> str:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
