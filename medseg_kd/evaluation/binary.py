"""Dice, Jaccard, HD95 and ASD of two boolean volumes, as ``medpy.metric.binary`` defines them.

Use :func:`medseg_kd.evaluation.score_case` for all organs of a labelled case: it shares the work between organs.
"""

import math

import numpy as np

from .surface import Spacing, directed_distances, foreground_box, surface_indices


def dice(pred: np.ndarray, truth: np.ndarray) -> float:
    """Dice coefficient ``2 |P & T| / (|P| + |T|)``.

    Args:
        pred: predicted object, any number of axes; non-zero is inside.
        truth: true object, the same shape.

    Returns:
        A fraction in [0, 1]; nan when both are empty (MedPy gives 1 or nan, depending on NumPy's version).

    Raises:
        ValueError: the shapes differ.
    """
    pred, truth = _as_masks(pred, truth)
    total = np.count_nonzero(pred) + np.count_nonzero(truth)
    return 2.0 * np.count_nonzero(pred & truth) / total if total else math.nan


def jaccard(pred: np.ndarray, truth: np.ndarray) -> float:
    """Jaccard coefficient (intersection over union) ``|P & T| / |P | T|``.

    Args:
        pred: predicted object, any number of axes; non-zero is inside.
        truth: true object, the same shape.

    Returns:
        A fraction in [0, 1]; nan when both are empty (MedPy gives 1 or nan, depending on NumPy's version).

    Raises:
        ValueError: the shapes differ.
    """
    pred, truth = _as_masks(pred, truth)
    union = np.count_nonzero(pred | truth)
    return np.count_nonzero(pred & truth) / union if union else math.nan


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
    source, target, shape = _surfaces(pred, truth)
    return directed_distances(source, target, shape, spacing)


def hd95(pred: np.ndarray, truth: np.ndarray, spacing: Spacing = None) -> float:
    """95th percentile of the symmetric Hausdorff distance.

    The percentile (linear interpolation) of the directed distances of both directions *pooled in one list*, as in
    MedPy. MONAI and DeepMind's surface-distance take the larger of two percentiles and give other numbers.

    Args:
        pred: predicted object; non-zero is inside.
        truth: true object, the same shape.
        spacing: voxel size, one number for each axis of the array (or one for all); None measures in voxels.

    Returns:
        The distance in the unit of ``spacing``.

    Raises:
        ValueError: an object is empty, the shapes differ, or the spacing is not one positive number per axis.
    """
    source, target, shape = _surfaces(pred, truth)
    forward = directed_distances(source, target, shape, spacing)
    backward = directed_distances(target, source, shape, spacing)
    return float(np.percentile(np.concatenate([forward, backward]), 95))


def asd(pred: np.ndarray, truth: np.ndarray, spacing: Spacing = None) -> float:
    """Average surface distance from ``pred`` to ``truth``: the mean of :func:`surface_distances`.

    Directed, as MedPy's ``asd``: ``asd(a, b)`` and ``asd(b, a)`` differ.

    Args:
        pred: predicted object; non-zero is inside.
        truth: true object, the same shape.
        spacing: voxel size, one number for each axis of the array (or one for all); None measures in voxels.

    Returns:
        The distance in the unit of ``spacing``.

    Raises:
        ValueError: an object is empty, the shapes differ, or the spacing is not one positive number per axis.
    """
    return float(surface_distances(pred, truth, spacing).mean())


def _surfaces(pred: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Surface voxels of both as flat indices into the box that holds both, and the shape of that box."""
    pred, truth = _as_masks(pred, truth)
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
