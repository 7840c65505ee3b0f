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
    *rest, height, width = planes.shape
    if (height, width) == tuple(size):
        return planes
    factors = size[0] / height, size[1] / width
    zoomed = [zoom(plane, factors, order=order) for plane in planes.reshape(-1, height, width)]
    return np.stack(zoomed).reshape(*rest, *size)
