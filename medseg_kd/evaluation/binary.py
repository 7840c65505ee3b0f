"""Dice, Jaccard, HD95 and ASD of two boolean volumes, as ``medpy.metric.binary`` defines them.

Use :func:`medseg_kd.evaluation.score_case` for all organs of a labelled case: it shares the work between organs.
"""

import math
from typing import Any

import numpy as np

from .measures import Measure, Organ
from .measures.asd import ASD
from .measures.dice import Dice
from .measures.hd95 import HD95
from .measures.jaccard import Jaccard
from .surface import Spacing, directed_distances, foreground_box, surface_indices


def surface_distances(pred: np.ndarray, truth: np.ndarray, spacing: Spacing = None) -> np.ndarray:
    """Directed distances from the surface of ``pred`` to the surface of ``truth``.

    A voxel is on the surface when a face neighbour lies outside the object or outside the volume. Equal to MedPy's
    ``__surface_distances(pred, truth, spacing, connectivity=1)``, element by element.

    Args:
        pred: object whose surface voxels are measured; non-zero is inside.
        truth: object to which they are measured, the same shape.
        spacing: voxel size, one number for each axis of the array (or one for all); None measures in voxels.

    Returns:
        (n,) float64, one distance for each of the n surface voxels of ``pred`` in C order, in the unit of ``spacing``.
        The distances from ``truth`` to ``pred`` are another list: swap the arguments.

    Raises:
        ValueError: an object is empty, the shapes differ, or the spacing is not one positive number per axis.
    """
    return directed_distances(*_surfaces(*_as_masks(pred, truth)), spacing)


def dice(pred: np.ndarray, truth: np.ndarray) -> float:
    """:class:`Dice`, a fraction; nan when both are empty (MedPy gives 1 or nan, depending on NumPy's version)."""
    return _value(Dice(), pred, truth)


def jaccard(pred: np.ndarray, truth: np.ndarray) -> float:
    """:class:`Jaccard`, a fraction; nan when both are empty (MedPy gives 1 or nan, depending on NumPy's version)."""
    return _value(Jaccard(), pred, truth)


def hd95(pred: np.ndarray, truth: np.ndarray, spacing: Spacing = None) -> float:
    """:class:`HD95` in the unit of ``spacing``, with the arguments and errors of :func:`surface_distances`."""
    return _value(HD95(), pred, truth, spacing)


def asd(pred: np.ndarray, truth: np.ndarray, spacing: Spacing = None) -> float:
    """:class:`ASD` in the unit of ``spacing``: the mean of :func:`surface_distances`, directed like them."""
    return _value(ASD(), pred, truth, spacing)


def _value(measure: Measure, pred: np.ndarray, truth: np.ndarray, spacing: Spacing = None) -> float:
    """What a measure gives for two objects; nan where it counts the voxels of two empty ones."""
    pred, truth = _as_masks(pred, truth)
    predicted, true, both = (int(np.count_nonzero(mask)) for mask in (pred, truth, pred & truth))
    distances: dict[str, Any] = {}
    if measure.needs:
        found, real, shape = _surfaces(pred, truth)
        pairs = {"pred_to_truth": (found, real), "truth_to_pred": (real, found)}
        distances = {way: directed_distances(*pairs[way], shape, spacing) for way in measure.needs}
    elif not predicted + true:
        return math.nan
    return measure(Organ("", predicted, true, both, **distances))


def _surfaces(pred: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Surface voxels of both as flat indices into the box that holds both, and the shape of that box."""
    for name, mask in (("pred", pred), ("truth", truth)):
        if not mask.any():
            raise ValueError(
                f"{name} is empty: surface distances need at least one voxel in each object. "
                "score_case() says how cases with an absent organ are scored."
            )
    box = foreground_box(pred, truth)
    pred, truth = pred[box], truth[box]
    return surface_indices(pred), surface_indices(truth), pred.shape


def _as_masks(pred: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as boolean arrays with at least one axis."""
    pred, truth = np.atleast_1d(np.asarray(pred)), np.atleast_1d(np.asarray(truth))
    if pred.shape != truth.shape:
        raise ValueError(f"pred has shape {pred.shape} and truth {truth.shape}: expected the same shape.")
    return pred.astype(bool, copy=False), truth.astype(bool, copy=False)
