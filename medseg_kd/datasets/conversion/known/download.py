"""What there is of a download."""

from pathlib import Path
from typing import NamedTuple

from medseg_kd.datasets.pairs import Pair
from medseg_kd.errors import UserError


class Download(NamedTuple):
    """Pairs of each split that are there, and what should be and is not, in words."""

    splits: dict[str, list[Pair]]
    missing: list[str]


def folder_in(raw: Path, places: tuple[str, ...], expected: str) -> Path:
    """The first of these folders in a download."""
    for place in places:
        if (raw / place).is_dir():
            return raw / place
    raise UserError(f"--raw {raw} holds no {places[0]}. Expected {expected} (docs/datasets.md)")
