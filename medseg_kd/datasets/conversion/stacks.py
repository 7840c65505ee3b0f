"""Which way the slices of a stack lie, as headers tell it."""

from collections.abc import Iterable

from medseg_kd.datasets.volumes import ORIENTATION, Header, orientation_of
from medseg_kd.errors import UserError

# Where slices point to: the orientation in which they are slices, as radiologists look at them.
_STACKS = {**dict.fromkeys("SI", ORIENTATION), **dict.fromkeys("LR", "PIL"), **dict.fromkeys("PA", "LIP")}
_THICK = 1.5
"""Slices of a stack are at least so many times further apart than their pixels."""


def stack_orientation(headers: Iterable[Header]) -> str:
    """The orientation in which the slices of stacks are slices: the widest spacing of a header is their distance.

    Raises:
        UserError: A volume is no stack of slices, or stacks lie along different axes.
    """
    found: dict[str, str] = {}
    for header in headers:
        *_, pixel, distance = sorted(header.spacing)
        told = f"{header.path} (spacing {' x '.join(f'{mm:g}' for mm in header.spacing)} mm)"
        if distance < _THICK * pixel:
            raise UserError(f"{told} is no stack of slices, which lie further apart than pixels. Correct its header")
        axis = orientation_of(header.direction)[header.spacing.index(distance)]
        found.setdefault(_STACKS[axis], told)
    if len(found) > 1:
        one, other = [*found.values()][:2]
        raise UserError(f"the slices of {one} and of {other} lie along different axes of the patient. Correct a header")
    return next(iter(found))
