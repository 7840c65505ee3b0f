"""Surfaces that lie between the voxels, as DeepMind's surface-distance places and weighs them (Nikolov et al., 2021).

A surface element lies at each corner of voxels where some of the 4 or 8 voxels around it are inside and some are not;
what is outside the volume is not inside. Its area is that of MONAI's table, which is DeepMind's.
"""

from functools import lru_cache
from itertools import product

import numpy as np

from ..errors import UserError
from .surface import Size, directed_distances, foreground_box


def surfel_distances(pred: np.ndarray, truth: np.ndarray, size: Size) -> tuple[np.ndarray, ...]:
    """Distances and areas of the surface elements of two objects, neither of them empty.

    Args:
        pred: (S, H, W) or (H, W) bool.
        truth: the same shape.
        size: voxel size along each axis.

    Returns:
        Four float64 arrays: the distance of each element of ``pred`` to the nearest of ``truth``, in the unit of
        ``size``, their areas (lengths where there are two axes); then the same of ``truth`` to ``pred``.

    Raises:
        UserError: there are not two or three axes.
    """
    if pred.ndim not in (2, 3):
        raise UserError(f"HD95 of DeepMind is that of 2 or 3 axes, not of {pred.ndim}. Take another convention")
    box = foreground_box(pred, truth)
    (found, found_areas), (true, true_areas) = (_surfels(mask[box], size) for mask in (pred, truth))
    shape = tuple(length + 1 for length in pred[box].shape)
    to_truth, to_pred = (directed_distances(*pair, shape, size) for pair in ((found, true), (true, found)))
    return to_truth, found_areas, to_pred, true_areas


def _surfels(mask: np.ndarray, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Flat indices of the elements, in an array that is longer by one along each axis, and their areas."""
    padded = np.pad(mask, 1).view(np.uint8)
    code = np.zeros([length + 1 for length in mask.shape], np.uint8)
    for offsets in product((slice(-1), slice(1, None)), repeat=mask.ndim):
        code = np.left_shift(code, 1) | padded[offsets]
    indices = np.flatnonzero((code != 0) & (code != 2**2**mask.ndim - 1))
    return indices, _areas(size)[code.ravel()[indices]]


@lru_cache
def _areas(size: Size) -> np.ndarray:
    """Area of an element by its code, which has a bit for each voxel around it."""
    from monai.metrics.utils import get_code_to_measure_table  # takes seconds to import

    return get_code_to_measure_table(size, device="cpu")[0].numpy().astype(np.float64)
