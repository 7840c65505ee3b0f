"""What the commands that measure networks share: their arguments."""

import argparse

import torch

from medseg_kd.errors import UserError


def add_measuring_arguments(parser: argparse.ArgumentParser, size: int, batch: int, repeat: int) -> None:
    """Add size, batch, repeats and device.

    Args:
        parser: Of the command.
        size: Default height and width.
        batch: Default number of slices.
        repeat: Default number of counted runs.
    """
    parser.add_argument("--size", type=int, nargs=2, default=[size, size], metavar=("H", "W"), help=f"({size} {size})")
    parser.add_argument("--batch", type=int, default=batch, help="slices (%(default)s)")
    parser.add_argument("--repeat", type=int, default=repeat, help="counted runs of each (%(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")


def measured_slices(arguments: argparse.Namespace) -> tuple[int, int, int]:
    """Number, height and width of the slices.

    Raises:
        UserError: A number is not positive.
    """
    if min(*arguments.size, arguments.batch, arguments.repeat) < 1:
        raise UserError("--size, --batch and --repeat must be at least 1.")
    height, width = arguments.size
    return arguments.batch, height, width
