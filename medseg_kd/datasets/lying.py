"""How well label maps agree as they lie, and whether they would far better if one was flipped or turned."""

import itertools
from collections.abc import Iterator

import numpy as np

from medseg_kd.errors import UserError

_AXES = ("slices", "rows", "columns")
_SIDE = 64
"""So many pixels of a side are looked at, or up to twice as many."""


def overlaps(told: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """Common voxels and sum of the voxels of each class, as they lie (first) and with ``told`` in other ways.

    Args:
        told: (S, H, W) labels; what is not below ``classes`` in ``truth`` does not count.
        truth: (S, H, W).

    Returns:
        (ways, 2, classes); those of several cases can be added, where the slices have one size.
    """
    step = max(1, min(truth.shape[1:]) // _SIDE)
    told, truth = told[:, ::step, ::step], truth[:, ::step, ::step]
    counted = truth < classes
    rows, found = truth[counted].astype(int) * classes, []
    for way in _ways(told):
        pairs = np.bincount(rows + way[counted], minlength=classes**2).reshape(classes, classes)
        found.append((pairs.diagonal(), pairs.sum(0) + pairs.sum(1)))
    return np.array(found)


def dice(counts: np.ndarray) -> np.ndarray:
    """Mean Dice of the foreground classes that there are, (ways,), of what :func:`overlaps` gives; else NaN."""
    same, both = counts[:, 0, 1:], counts[:, 1, 1:]
    there = both[0] > 0
    return (2 * same / np.maximum(both, 1))[:, there].mean(1) if there.any() else np.full(len(counts), np.nan)


def check_lying(counts: np.ndarray, where: str) -> None:
    """Refuse labels that agree far better when they are flipped or turned.

    Args:
        counts: See :func:`overlaps`.
        where: What is compared, for the message.
    """
    scores = dice(counts)
    best = int(np.argmax(scores))
    own, other = scores[0], scores[best]
    if other > max(0.3, own + 0.1) and (other > 2 * own or 1 - other < 0.6 * (1 - own)):
        flips, is_turned = list(itertools.product((False, True), repeat=3))[best % 8], best >= 8
        how = [f"{' and '.join(a for a, is_flipped in zip(_AXES, flips, strict=True) if is_flipped)} flipped"] * any(
            flips
        )
        how += ["rows and columns exchanged"] * is_turned
        raise UserError(
            f"{where}: the stored labels agree with the training labels by Dice {own:.1%} as they lie, but by "
            f"{other:.1%} with {', '.join(how)}. They were predicted from images that lie otherwise, or their header "
            "was changed. Predict the training images as they are"
        )


def _ways(labels: np.ndarray) -> Iterator[np.ndarray]:
    """(S, H, W) as it is, with axes flipped, and where slices are square with rows and columns exchanged too."""
    turned = [labels.swapaxes(1, 2)] if labels.shape[1] == labels.shape[2] else []
    for each in [labels, *turned]:
        for flips in itertools.product((False, True), repeat=3):
            yield np.flip(each, tuple(axis for axis, is_flipped in enumerate(flips) if is_flipped))
