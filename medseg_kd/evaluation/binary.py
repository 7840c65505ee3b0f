"""Dice, Jaccard, HD95 and ASD of two boolean volumes, as ``medpy.metric.binary`` defines them.

Use :func:`medseg_kd.evaluation.score_case` for all organs of a labelled case: it shares the work between organs.
"""

import numpy as np

from .case import score_case
from .surface import Spacing, directed_distances, foreground_box, surface_indices, voxel_size


def surface_distances(pred: np.ndarray, truth: np.ndarray, spacing: Spacing = None) -> np.ndarray:
    """Directed distances from the surface of ``pred`` to the surface of ``truth``.

    A voxel is on the surface when a face neighbour lies outside the object or outside the volume. Equal to MedPy's
    ``__surface_distances(pred, truth, spacing, connectivity=1)``, element by element.

    Args:
        pred: object whose surface voxels are measured, any number of axes; non-zero is inside.
        truth: object to which they are measured, the same shape.
        spacing: voxel size, one number for each axis of the array (or one for all); None measures in voxels.

    Returns:
        (n,) float64, one distance for each of the n surface voxels of ``pred`` in C order, in the unit of ``spacing``.
        The distances from ``truth`` to ``pred`` are another list: swap the arguments.

    Raises:
        ValueError: an object is empty, the shapes differ, or the spacing is not one positive number per axis.
    """
    pred, truth = _masks(pred, truth, refuse_empty=True)
    size = voxel_size(spacing, pred.ndim)
    box = foreground_box(pred, truth)
    pred, truth = pred[box], truth[box]
    return directed_distances(surface_indices(pred), surface_indices(truth), pred.shape, size)


def dice(pred: np.ndarray, truth: np.ndarray) -> float:
    """Dice coefficient, a fraction; nan when both are empty (MedPy gives 1 or nan, depending on NumPy's version)."""
    return _score("dice", *_masks(pred, truth))


def jaccard(pred: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union, a fraction; nan when both are empty, as for :func:`dice`."""
    return _score("jaccard", *_masks(pred, truth))


def hd95(pred: np.ndarray, truth: np.ndarray, spacing: Spacing = None) -> float:
    """95th percentile of both lists of :func:`surface_distances` pooled, with its arguments and errors."""
    return _score("hd95", *_masks(pred, truth, refuse_empty=True), spacing)


def asd(pred: np.ndarray, truth: np.ndarray, spacing: Spacing = None) -> float:
    """Mean of :func:`surface_distances`, directed like them, with its arguments and errors."""
    return _score("asd", *_masks(pred, truth, refuse_empty=True), spacing)


def _score(key: str, pred: np.ndarray, truth: np.ndarray, spacing: Spacing = None) -> float:
    """What a measure gives for the objects as the only organ of a case."""
    voxel_size(spacing, pred.ndim)  # A ValueError here, a UserError from score_case.
    return float(score_case(pred, truth, 2, spacing, "strict", [key])[1][key])


def _masks(pred: np.ndarray, truth: np.ndarray, refuse_empty: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Both as boolean arrays with at least one axis."""
    pred, truth = (np.atleast_1d(np.asarray(mask)).astype(bool, copy=False) for mask in (pred, truth))
    if pred.shape != truth.shape:
        raise ValueError(f"pred has shape {pred.shape} and truth {truth.shape}: expected the same shape.")
    for name, mask in (("pred", pred), ("truth", truth)):
        if refuse_empty and not mask.any():
            raise ValueError(
                f"{name} is empty: surface distances need at least one voxel in each object. "
                "score_case() says how cases with an absent organ are scored."
            )
    return pred, truth
