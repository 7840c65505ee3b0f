"""What a network by itself asks of its input."""

from torch import Tensor, nn

from medseg_kd.errors import UserError
from medseg_kd.models.padding import check_divisible


def check_input(network: nn.Module, x: Tensor) -> None:
    """Refuse an input (N, C, H, W) that a network does not take.

    Raises:
        UserError: Its channels are not ``network.in_channels``, or its sides no multiples of ``network.size_divisor``.
    """
    name = type(network).__name__
    given, wanted = x.shape[1], network.in_channels
    if given != wanted:
        raise UserError(
            f"{name} takes {wanted} input channels, but got {given} in an input of {tuple(x.shape)}. "
            f"Set model.in_channels to {given}, or give it images of {wanted}"
        )
    check_divisible(x, getattr(network, "size_divisor", 1), name)
