"""From logits to labels."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def to_labels(logits: Tensor, size: tuple[int, int] | torch.Size, decode: Callable[[Tensor], Tensor]) -> Tensor:
    """The classes of logits, on the grid that the slices had before they were resized for the network.

    Args:
        logits: (N, C, h, w); resized bilinearly to ``size`` first.
        size: (H, W).
        decode: Of the model that gave them: logits (N, C, H, W) to classes (N, H, W).

    Returns:
        (N, H, W) uint8, on the logits' device.
    """
    if logits.shape[-2:] != tuple(size):
        logits = F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)
    return decode(logits)
