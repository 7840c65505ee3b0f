"""Padding on the right and at the bottom, so that coordinates stay what they were."""

import math

import torch.nn.functional as F
from torch import Tensor


def pad_to(x: Tensor, size: tuple[int, int], value: float) -> Tensor:
    """Pad the last two axes of ``x`` to ``size`` (height, width) with ``value``."""
    height, width = x.shape[-2:]
    if (height, width) == tuple(size):
        return x
    return F.pad(x, (0, size[1] - width, 0, size[0] - height), value=value)


def divisible_size(size: tuple[int, int], divisor: int) -> tuple[int, int]:
    """The smallest (height, width) not below ``size`` that ``divisor`` divides."""
    return math.ceil(size[0] / divisor) * divisor, math.ceil(size[1] / divisor) * divisor
