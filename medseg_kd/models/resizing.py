"""The one resize of logits and feature maps."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import interpolate


def resize(x: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """Bilinear resize of (N, C, h, w) to ``size``; ``x`` itself where it has that size."""
    size = tuple(size)
    return x if x.shape[-2:] == size else interpolate(x, size, mode="bilinear", align_corners=align_corners)
