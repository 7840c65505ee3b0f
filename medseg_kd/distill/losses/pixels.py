"""Which pixels take part in a loss, and at which size."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from medseg_kd.models.losses.gathering import count
from medseg_kd.models.resizing import resize


def to_larger(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Resize the smaller of two (N, C, h, w) maps to the larger, bilinear."""
    size = [max(lengths) for lengths in zip(student.shape[-2:], teacher.shape[-2:], strict=True)]
    return resize(student, size), resize(teacher, size)


def valid_pixels(label: Tensor | None, like: Tensor, ignore_index: int) -> Tensor:
    """Mask (N, h, w) of the pixels of ``like`` (N, C, h, w) that take part: all of them without a label.

    A label (N, H, W) of another size is resized to that of ``like``, nearest.
    """
    if label is None:
        return torch.ones(len(like), *like.shape[-2:], dtype=torch.bool, device=like.device)
    return at_size(label.long() != ignore_index, like.shape[-2:])  # in uint8, -1 and 255 are one


def at_size(mask: Tensor, size: Sequence[int]) -> Tensor:
    """A mask (N, H, W), bool, at another size, nearest; a view where that divides its own."""
    strides = [whole // part for whole, part in zip(mask.shape[-2:], size, strict=True)]
    if [stride * part for stride, part in zip(strides, size, strict=True)] == list(mask.shape[-2:]):
        return mask[..., :: strides[0], :: strides[1]]
    return F.interpolate(mask[:, None].to(torch.uint8), size=tuple(size), mode="nearest")[:, 0].bool()


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
