"""What the commands that measure share: arguments, and trainings that are timed in turn."""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping

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


def timed_in_turn(
    advance: Mapping[str, Callable[[int], None]], iterations: int, blocks: int, device: torch.device
) -> tuple[dict[str, float], dict[str, int]]:
    """Time trainings block by block, A B A B ..., after a block of each that does not count.

    Args:
        advance: {name: trains for a number of iterations}.
        iterations: In a block.
        blocks: Of which the median counts.
        device: What is waited for.

    Returns:
        Seconds of an iteration, and on a GPU the peak of its memory in MiB, by name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in advance}
    memory = {}
    for turn in range(-1, blocks):
        for name, run in advance.items():
            if device.type == "cuda":
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
            start = time.perf_counter()
            run(iterations)
            if device.type == "cuda":
                torch.cuda.synchronize()
                memory[name] = torch.cuda.max_memory_allocated() >> 20
            if turn >= 0:
                seconds[name].append((time.perf_counter() - start) / iterations)
    return {name: statistics.median(taken) for name, taken in seconds.items()}, memory
