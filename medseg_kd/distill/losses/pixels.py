"""Which pixels take part in a loss, and at which size."""

import torch
import torch.nn.functional as F
from torch import Tensor


def to_larger(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Resize the smaller of two (N, C, h, w) maps to the larger, bilinear, ``align_corners=False``."""
    size = (max(student.shape[-2], teacher.shape[-2]), max(student.shape[-1], teacher.shape[-1]))
    return resize(student, size), resize(teacher, size)


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize of (N, C, h, w) to ``size``; nothing to do where it has that size."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def valid_pixels(label: Tensor | None, like: Tensor, ignore_index: int) -> Tensor:
    """Mask (N, h, w) of the pixels of ``like`` (N, C, h, w) that take part: all of them without a label.

    A label (N, H, W) of another size is resized to that of ``like``, nearest.
    """
    size = like.shape[-2:]
    if label is None:
        return torch.ones(len(like), *size, dtype=torch.bool, device=like.device)
    if label.shape[-2:] != size:
        label = F.interpolate(label[:, None].float(), size=size, mode="nearest")[:, 0]
    return label != ignore_index


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of ``values`` where ``valid`` (broadcast to it) holds; where it never does, a connected zero."""
    valid = valid.expand_as(values)
    return values.masked_fill(~valid, 0).sum() / valid.sum().clamp(min=1)


def masked_pool(x: Tensor, valid: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Adaptive average pooling over the valid pixels alone.

    Args:
        x: (N, C, H, W).
        valid: (N, H, W) mask.
        size: (h, w) to pool to.

    Returns:
        (N, C, h, w) means and the (N, h, w) mask of the cells that hold a valid pixel.
    """
    if tuple(x.shape[-2:]) == tuple(size):
        return x, valid
    share = F.adaptive_avg_pool2d(valid[:, None].to(x.dtype), size)
    means = F.adaptive_avg_pool2d(x.masked_fill(~valid[:, None], 0), size) / share.masked_fill(share == 0, 1)
    return means, share[:, 0] > 0
