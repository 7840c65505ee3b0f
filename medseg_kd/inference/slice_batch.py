"""How many slices of a case go through a network together: always a power of two."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

ON_CPU, PIXELS_ON_CPU = 8, 1 << 17
"""On the CPU as many slices as have these pixels, whose maps stay in the cache; one where it has more."""
PROBE, MOST = 4, 64
SHARE = 0.5
"""Of the memory that is free after the probe; the rest is for what the allocator cannot place."""


def on_cpu(pixels: int) -> int:
    """Slices of so many pixels to predict together on the CPU."""
    return max(1, _power_of_two(min(ON_CPU, PIXELS_ON_CPU // pixels)))


def probe(device: "torch.device", predict: Callable[[], object], slices: int) -> int:
    """Slices that fit on a GPU together, by the memory that ``predict`` takes for a few ``slices``.

    It runs twice: the first run also tries convolution algorithms, whose work space would count.
    """
    import torch

    predict()
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    predict()
    needed = torch.cuda.max_memory_allocated(device) - before
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return fitting(needed / slices, torch.cuda.mem_get_info(device)[0] + cached)


def fitting(needed: float, free: float) -> int:
    """Slices of ``needed`` bytes each that fit into ``free`` bytes, from ``PROBE``, which did fit, to ``MOST``."""
    return max(PROBE, _power_of_two(int(min(MOST, SHARE * free / max(needed, 1)))))


def batch_sizes(slices: int, batch: int) -> list[int]:
    """Sizes of the batches of a case, powers of two up to ``batch``.

    A remainder of any size would be a new shape in nearly every case, and on a GPU each new shape starts a search for
    the fastest convolution.
    """
    rest = slices % batch
    return [batch] * (slices // batch) + [1 << bit for bit in reversed(range(rest.bit_length())) if rest >> bit & 1]


def _power_of_two(number: int) -> int:
    """The largest power of two up to ``number``; 0 for 0."""
    return 1 << number.bit_length() >> 1
