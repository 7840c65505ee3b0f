"""Sizes that a network takes, and padding to them on the right and at the bottom, so that coordinates stay."""

import torch.nn.functional as F
from torch import Tensor

from medseg_kd.errors import UserError


def pad_to(x: Tensor, size: tuple[int, int], value: float) -> Tensor:
    """Pad the last two axes of ``x`` to ``size`` (height, width) with ``value``."""
    height, width = x.shape[-2:]
    if (height, width) == tuple(size):
        return x
    return F.pad(x, (0, size[1] - width, 0, size[0] - height), value=value)


def divisible_size(size: tuple[int, int], divisor: int) -> tuple[int, int]:
    """The smallest (height, width) not below ``size`` that ``divisor`` divides."""
    # Not by a negative quotient: ONNX rounds it towards 0.
    rows, columns = ((side + divisor - 1) // divisor for side in size)
    return rows * divisor, columns * divisor


def check_divisible(x: Tensor, divisor: int, network: str) -> None:
    """Refuse an input (N, C, H, W) whose height or width is no multiple of ``divisor``.

    Raises:
        UserError: One line with the sizes that work and those nearest to the input's.
    """
    height, width = x.shape[-2:]
    if height % divisor or width % divisor:
        below = [max(side // divisor * divisor, divisor) for side in (height, width)]
        above = divisible_size((height, width), divisor)
        near = dict.fromkeys(f"{h}x{w}" for h, w in (below, above))
        raise UserError(
            f"{network} takes heights and widths that are multiples of {divisor}, but got {height}x{width}; nearest: "
            f"{' and '.join(near)}. A Segmentor around it pads and crops by itself"
        )
