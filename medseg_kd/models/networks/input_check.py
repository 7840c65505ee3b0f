"""What a network by itself asks of its input."""

from torch import Tensor, nn

from medseg_kd.errors import UserError
from medseg_kd.models.padding import check_divisible


def check_input(network: nn.Module, x: Tensor) -> None:
    """Refuse an input (N, C, H, W) that a network does not take.

    Args:
        network: Says what it takes: ``in_channels``, and ``size_divisor`` where not every size will do.
        x: The input.

    Raises:
        UserError: Its channels are not the network's, or its height or width is no multiple of the divisor.
    """
    name = type(network).__name__
    given, wanted = x.shape[1], network.in_channels
    if given != wanted:
        raise UserError(
            f"{name} takes {wanted} input channels, but got {given} in an input of {tuple(x.shape)}. "
            f"Set model.in_channels to {given}, or give it images of {wanted}"
        )
    check_divisible(x, getattr(network, "size_divisor", 1), name)
