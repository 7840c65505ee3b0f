"""Resizing as the code behind published Synapse tables does it."""

import numpy as np
from scipy.ndimage import zoom


def zoom_planes(planes: np.ndarray, size: tuple[int, int], order: int) -> np.ndarray:
    """Resize the last two axes by spline interpolation, plane by plane, as TransUNet's ``test_single_volume`` does.

    Args:
        planes: (..., H, W).
        size: (height, width) to come out.
        order: Of the spline: 3 for images, 0 (nearest) for labels.
    """
    if planes.shape[-2:] == tuple(size):
        return planes
    factors = [wanted / given for wanted, given in zip(size, planes.shape[-2:], strict=True)]
    flat = planes.reshape(-1, *planes.shape[-2:])
    zoomed = np.stack([zoom(plane, factors, order=order) for plane in flat])
    return zoomed.reshape(*planes.shape[:-2], *size)
