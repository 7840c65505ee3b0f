"""Which pixels take part in a loss, and at which size."""

import sys
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from medseg_kd.models.losses.gathering import count
from medseg_kd.models.resizing import resize

_SHORTEST = 1e-4


def to_larger(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Resize the smaller of two (N, C, h, w) maps to the larger, bilinear."""
    size = [max(lengths) for lengths in zip(student.shape[-2:], teacher.shape[-2:], strict=True)]
    return resize(student, size), resize(teacher, size)


def valid_pixels(label: Tensor | None, like: Tensor, ignore_index: int) -> Tensor:
    """Mask (N, h, w) of the pixels of ``like`` (N, C, h, w) that take part: all of them without a label.

    A label (N, H, W) of another size is resized to that of ``like``, nearest.
    """
    size = like.shape[-2:]
    if label is None:
        return torch.ones(len(like), *size, dtype=torch.bool, device=like.device)
    return nearest(label, size).long() != ignore_index  # in uint8, -1 and 255 are one


def nearest(label: Tensor, size: Sequence[int]) -> Tensor:
    """A label (N, H, W) resized to ``size``, nearest, in a type of its own."""
    strides = [whole // part for whole, part in zip(label.shape[-2:], size, strict=True)]
    if [stride * part for stride, part in zip(strides, size, strict=True)] == list(label.shape[-2:]):
        return label[..., :: strides[0], :: strides[1]]
    return F.interpolate(label[:, None].float(), size=tuple(size), mode="nearest")[:, 0]


def masked_mean(values: Tensor, valid: Tensor, training: bool = False) -> Tensor:
    """Mean of ``values`` where ``valid`` (broadcast to it) holds; where it never does, a connected zero.

    In training the divisor is counted over all processes, see :func:`medseg_kd.models.losses.gathering.count`.
    """
    valid = valid.expand_as(values)
    return values.masked_fill(~valid, 0).sum() / count(valid.sum(), training)


def masked_pool(x: Tensor, valid: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Adaptive average pooling of (N, C, H, W) to ``size`` over the pixels that the (N, H, W) mask holds.

    Returns the (N, C, h, w) means and the (N, h, w) mask of the cells that hold a valid pixel.
    """
    if tuple(x.shape[-2:]) == tuple(size):
        return x, valid
    share = pool(valid[:, None].to(x.dtype), size)
    means = pool(x.masked_fill(~valid[:, None], 0), size) / share.masked_fill(share == 0, 1)
    return means, share[:, 0] > 0


def pooled_alike(
    student: Tensor, teacher: Tensor, label: Tensor | None, ignore_index: int, most: int = sys.maxsize
) -> tuple[Tensor, Tensor, Tensor]:
    """Two features of the smaller's size, of at most ``most`` rows and columns, and the mask (N, h, w) of valid cells.

    The larger is average-pooled over its valid pixels, see :func:`valid_pixels`.
    """
    size = [min(*lengths, most) for lengths in zip(student.shape[-2:], teacher.shape[-2:], strict=True)]
    student, valid_s = masked_pool(student, valid_pixels(label, student, ignore_index), size)
    teacher, valid_t = masked_pool(teacher, valid_pixels(label, teacher, ignore_index), size)
    return student, teacher, valid_s & valid_t


def directions(x: Tensor) -> Tensor:
    """What :func:`torch.nn.functional.normalize` gives of the first axis after the batch's.

    What is shorter than 1e-4 has no direction: the gradient of one is the inverse of its length.
    """
    return F.normalize(x, dim=1, eps=_SHORTEST)


def pool(x: Tensor, size: Sequence[int]) -> Tensor:
    """Adaptive average pooling of (N, C, H, W) to ``size``.

    PyTorch's own refuses to go backward on a GPU where deterministic algorithms are asked for.
    """
    (height, width), (rows, columns) = x.shape[-2:], size
    if height % rows == 0 and width % columns == 0:
        return F.avg_pool2d(x, (height // rows, width // columns))
    return _cells(height, rows, x) @ (x @ _cells(width, columns, x).mT)


def _cells(length: int, cells: int, like: Tensor) -> Tensor:
    """Matrix (cells, length) that averages an axis into the cells of adaptive pooling, which may overlap."""
    cell = torch.arange(cells, device=like.device)[:, None]
    start, stop = cell * length // cells, ((cell + 1) * length + cells - 1) // cells
    place = torch.arange(length, device=like.device)
    return ((place >= start) & (place < stop)).to(like.dtype) / (stop - start)
