"""Cases as a page holds them: pictures of the slices, and their labels as bytes that the browser unpacks."""

import base64
import io
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, features

from medseg_kd.errors import UserError
from medseg_kd.report.page.labels import CaseLabels

BUDGET = 8_700_000
"""Bytes of all cases together."""
FIRST = 3
"""The worst, the median and the best case: each gets its part of the budget whatever it takes."""
MOST = 9
_LEVELS = [
    (512, 80, 1),
    (512, 60, 1),
    (384, 60, 1),
    (384, 40, 1),
    (320, 40, 1),
    *((256, 45, 2**step) for step in range(10)),
]
"""Longest side in pixels, quality of the picture, one slice of how many; the first that fits is taken."""
_SAMPLE = 8


def chosen_cases(cases: Sequence[str], values: np.ndarray, higher_is_better: bool) -> list[tuple[str, str]]:
    """Cases to show and what each is: the worst, the median, the best, then the next worst ones.

    Args:
        cases: Their names.
        values: (cases, organs); the mean of those that are numbers ranks a case.
        higher_is_better: Of the values.
    """
    counted = [index for index in range(len(cases)) if not np.isnan(values[index]).all()]
    means = {index: float(np.nanmean(values[index])) for index in counted}
    ranked = sorted(counted, key=lambda index: means[index] if higher_is_better else -means[index])
    named = {place: f"rank {place + 1} of {len(ranked)}" for place in range(len(ranked))}
    named |= {(len(ranked) - 1) // 2: "median", len(ranked) - 1: "best", 0: "worst"} if ranked else {}
    order = dict.fromkeys([0, (len(ranked) - 1) // 2, len(ranked) - 1, *named]) if ranked else {}
    return [(cases[ranked[place]], named[place]) for place in [*order][:MOST]]


def case_pictures(image: np.ndarray, labels: CaseLabels, budget: int) -> dict[str, Any]:
    """A case as JSON, at the best quality that keeps within the budget.

    Args:
        image: (S, h, w) or (S, h, w, 3) uint8; its slices are those of the labels, its grid may be another.
        labels: On the grid that is shown.
        budget: In bytes.

    Returns:
        ``height``, ``width``, ``aspect`` (width over height in mm), ``of`` (slices and sides of the case itself),
        ``start`` (index of the slice with the most wrong pixels) and ``slices``: ``number``, ``image``, ``truth`` (None
        without a label) and ``prediction``, see :func:`packed`.

    Raises:
        UserError: Image and labels have not as many slices.
    """
    count, height, width = labels.prediction.shape
    if len(image) != count:
        raise UserError(f"the image has {len(image)} slices, its labels {count}")
    for side, quality, step in _LEVELS:
        numbers = range(0, count, step)
        sample = [numbers[int(place)] for place in np.linspace(0, len(numbers) - 1, min(_SAMPLE, len(numbers)))]
        tried = [_slice(image, labels, number, side, quality) for number in sample]
        if size_of(tried) / len(tried) * len(numbers) <= budget or step == _LEVELS[-1][2]:
            found = [_slice(image, labels, number, side, quality) for number in numbers]
            if size_of(found) <= budget:
                break
    wrong = _wrong(labels)[numbers.start :: step]
    shown = reduced(labels.prediction[0], side)
    spacing = labels.spacing or (1, 1, 1)
    return {
        "height": shown.shape[0],
        "width": shown.shape[1],
        "aspect": width * spacing[-1] / (height * spacing[-2]),
        "of": [count, height, width],
        "ignored": labels.ignored,
        "start": int(wrong.argmax()),
        "slices": found,
    }


def other_predictions(case: dict[str, Any], labels: CaseLabels) -> list[str] | None:
    """The prediction of another run for each slice that is shown of a case; None where its truth is another."""
    if labels.truth is None or list(labels.truth.shape) != case["of"]:
        return None
    side, found = max(case["height"], case["width"]), []
    for each in case["slices"]:
        if unpacked(each["truth"]) != reduced(labels.truth[each["number"]], side).tobytes():
            return None
        found.append(packed(reduced(labels.prediction[each["number"]], side)))
    return found


def thinned(case: dict[str, Any]) -> dict[str, Any]:
    """A case with every second of its slices."""
    return {**case, "slices": case["slices"][::2], "start": case["start"] // 2}


def size_of(slices: Sequence[dict[str, Any]]) -> int:
    """Bytes of slices."""
    return sum(len(value) for each in slices for value in each.values() if isinstance(value, str))


def grey_or_colour(volume: Any, colours: str = "") -> np.ndarray:
    """Slices (S, C, H, W) as (S, H, W) uint8, the middle channel, or (S, H, W, 3) where the channels are ``colours``.

    Grey values are stretched over the case, from the darkest half percent to the brightest.
    """
    planes = np.asarray(volume)
    planes = planes if planes.ndim == 4 else planes[None]
    if colours and planes.shape[1] == 3:
        planes = np.moveaxis(planes, 1, -1)[..., :: -1 if colours == "BGR" else 1]
    else:
        planes = planes[:, planes.shape[1] // 2]
    if planes.dtype == np.uint8:
        return planes
    few = planes[:: max(1, len(planes) // 32), ::2, ::2]
    few = few[np.isfinite(few)]
    low, high = np.percentile(few, [0.5, 99.5]).tolist() if few.size else (0.0, 0.0)
    if few.size and not low < high:
        low, high = float(few.min()), float(few.max())
    scale = 255 / (high - low) if low < high else 0
    return np.stack([np.nan_to_num((each - low) * scale).clip(0, 255).astype(np.uint8) for each in planes])


def packed(labels: np.ndarray) -> str:
    """Labels (H, W) uint8 as base64 of their zlib stream, row by row."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(labels).tobytes(), 9)).decode()


def unpacked(text: str) -> bytes:
    """What :func:`packed` was given."""
    return zlib.decompress(base64.b64decode(text))


def reduced(labels: np.ndarray, side: int) -> np.ndarray:
    """Labels (H, W) whose longer side is at most ``side``, by nearest neighbours."""
    height, width = labels.shape
    factor = min(1.0, side / max(height, width))
    rows, columns = max(1, round(height * factor)), max(1, round(width * factor))
    return labels[(np.arange(rows) * height // rows)[:, None], np.arange(columns) * width // columns]


def _slice(image: np.ndarray, labels: CaseLabels, number: int, side: int, quality: int) -> dict[str, Any]:
    """A slice as a page holds it."""
    prediction = reduced(labels.prediction[number], side)
    size = prediction.shape[1], prediction.shape[0]
    picture, kind = io.BytesIO(), "webp" if features.check("webp") else "jpeg"
    drawn = Image.fromarray(image[number])
    drawn = drawn if drawn.size == size else drawn.resize(size, Image.Resampling.BILINEAR)
    drawn.save(picture, kind, quality=quality)
    return {
        "number": number,
        "image": f"data:image/{kind};base64,{base64.b64encode(picture.getvalue()).decode()}",
        "truth": None if labels.truth is None else packed(reduced(labels.truth[number], side)),
        "prediction": packed(prediction),
    }


def _wrong(labels: CaseLabels) -> np.ndarray:
    """Wrong pixels of each slice; without a label those of any organ."""
    if labels.truth is None:
        return np.count_nonzero(labels.prediction, axis=(1, 2))
    wrong = (labels.prediction != labels.truth) & (labels.truth != labels.ignored)
    return np.count_nonzero(wrong, axis=(1, 2))
