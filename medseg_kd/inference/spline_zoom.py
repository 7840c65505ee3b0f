"""The resizing of ``scipy.ndimage.zoom`` as matrices, which a graph computes for any size.

Between cubic splines and samples lies a linear map: P. Thevenaz, T. Blu, M. Unser, "Interpolation Revisited", IEEE
Transactions on Medical Imaging 19, 739-758, 2000. Images are continued by reflection about their first and last pixel.
Where rounding puts the last new pixel beyond the last old one, as from 512 to 224, SciPy makes it 0, and so is it here.
"""

import math

import torch
from torch import Tensor

_POLE = 2 - math.sqrt(3)
"""The pole of the filter that gives the coefficients of a cubic spline, but for its sign."""


def zoom_matrix(size: int, new_size: int) -> Tensor:
    """(new_size, size) float32 that an axis of two pixels or more is multiplied by: ``zoom`` of order 3."""
    pixel = torch.arange(size, dtype=torch.float64)
    last = pixel[-1:]
    twice = torch.where((pixel == 0) | (pixel == last), 0.5, 1.0)  # the ends are their own reflections
    rows, columns = pixel[:, None], pixel[None, :]
    coefficients = math.sqrt(3) * (_response((rows - columns).abs(), last) + _response(rows + columns, last)) * twice
    at = _positions(new_size, last)[:, None]
    values = (_spline(at - columns) + _spline(at + columns) + _spline(at + columns - 2 * last)) * twice
    return torch.where(at <= last, values @ coefficients, 0.0).float()


def zoom_labels(labels: Tensor, height: int, width: int) -> Tensor:
    """Labels (N, h, w) at another size: ``zoom`` of order 0, two pixels or more."""
    rows, columns = (
        _positions(new, torch.tensor([old - 1.0], dtype=torch.float64))
        for old, new in zip(labels.shape[-2:], (height, width), strict=True)
    )
    inside = (rows <= labels.shape[-2] - 1)[:, None] & (columns <= labels.shape[-1] - 1)
    nearest = labels[:, (rows + 0.5).long()][:, :, (columns + 0.5).long()]
    return torch.where(inside, nearest, torch.zeros((), dtype=labels.dtype))


def _positions(new_size: int, last: Tensor) -> Tensor:
    """Where the new pixels lie on the old ones, whose first and last they share."""
    new = torch.arange(new_size, dtype=torch.float64)
    return new * (last / new[-1:])


def _response(distance: Tensor, last: Tensor) -> Tensor:
    """Impulse response of the filter, both of a pixel and of all its reflections a period of 2 * last apart."""
    sign = 1 - 2 * (distance % 2)
    return sign * (_POLE**distance + _POLE ** (2 * last - distance)) / (1 - _POLE ** (2 * last))


def _spline(x: Tensor) -> Tensor:
    """The cubic B-spline."""
    x = x.abs()
    return torch.where(x < 1, 2 / 3 - x**2 + x**3 / 2, (2 - x).clamp(min=0) ** 3 / 6)
