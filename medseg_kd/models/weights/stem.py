"""Kernels of RGB networks for one-channel images."""

from torch import Tensor


def sum_input_channels(weight: Tensor) -> Tensor:
    """Sum a convolution kernel (out, in, h, w) over its input channels to (out, 1, h, w).

    On a one-channel image it gives what the kernel gives on that image repeated ``in`` times.
    """
    return weight.sum(1, keepdim=True)
