"""How much a file may ask for: told by its header, and refused before memory is taken."""

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from medseg_kd.errors import UserError, some

VARIABLE = "MEDSEG_KD_MAX_VOXELS"
"""Environment variable that raises or lowers the limit."""
MAX_VOXELS = 1 << 30
"""Values of one array in a file: 4 GiB in float32, 4,096 slices of 512x512."""


def checked_bytes(shape: Sequence[int], kind: np.dtype, where: str | Path) -> int:
    """Bytes of an array that a header tells of, once it is one of numbers and its size is within the limit.

    Args:
        shape: Its lengths along all axes.
        kind: Type of its values.
        where: The file, and the array in it, for messages.
    """
    if kind.kind not in "biuf":
        raise UserError(f"{where}: an array of {kind}, expected whole or real numbers. Save it as such")
    count, most = math.prod(shape), _limit()
    if min(shape, default=0) < 0 or count > most:
        raise UserError(
            f"{where}: its header tells {'x'.join(map(str, shape))} = {count} values; at most {most} are read. If "
            f"that is right, set the environment variable {VARIABLE}; else copy or prepare the file again"
        )
    return count * kind.itemsize


def require(names: Iterable[str], found: Iterable[str], path: Path) -> None:
    """Refuse a file that lacks an array of one of these names."""
    found = sorted(found)
    if missing := [name for name in names if name not in found]:
        raise UserError(
            f"{path} holds {some(found) or 'nothing'}, expected {' and '.join(names)}: no {missing[0]}. Save the array "
            "under this name"
        )


def _limit() -> int:
    """The limit that holds."""
    said = os.environ.get(VARIABLE, str(MAX_VOXELS))
    try:
        return int(float(said))
    except (ValueError, OverflowError):
        raise UserError(f"{VARIABLE} is {said!r} in the environment: expected a number, such as 4e9") from None
