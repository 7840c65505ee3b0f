"""Regions: sets of classes that may overlap, and the class that a pixel of each becomes."""

from collections.abc import Mapping, Sequence
from typing import Any

from medseg_kd.errors import UserError

Regions = Mapping[str, tuple[int, ...]]
ClassOrder = tuple[tuple[str, int], ...]


def read_regions(given: Any, classes: Sequence[str], where: str) -> dict[str, tuple[int, ...]]:
    """Regions as class values; each is given as one class or several, by names or numbers."""
    if not isinstance(given, Mapping) or not classes:
        raise UserError(f"{where}: regions is {given!r}: expected name=(classes), beside the names of the classes")
    regions = {}
    for name, one_or_more in given.items():
        members = [one_or_more] if isinstance(one_or_more, (str, int)) else one_or_more
        known = ", ".join(classes[1:])
        if not isinstance(members, (list, tuple)) or not members:
            raise UserError(f"{where}: region {name!r} is {one_or_more!r}: expected some of the classes {known}")
        values = [_value(each, classes) for each in members]
        if wrong := [value for value in values if type(value) is not int or not 0 < value < len(classes)]:
            raise UserError(f"{where}: region {name!r} has {wrong[0]!r}, none of the classes {known}")
        regions[str(name)] = tuple(sorted(set(values)))
    return regions


def read_class_order(given: Any, regions: Regions, classes: Sequence[str], where: str) -> ClassOrder:
    """Regions in the order of decoding, and the class that each becomes: one of its own, by name or number."""
    try:
        order = tuple((str(name), _value(each, classes)) for name, each in given)
    except (TypeError, ValueError):
        order = ()
    if sorted(name for name, _ in order) != sorted(regions) or any(each not in regions[name] for name, each in order):
        raise UserError(
            f"{where}: regions_class_order is {given!r}: expected (region, class) for each region in the order of "
            f"decoding, the class one of the region's own; the regions are {describe(regions)}"
        )
    return order


def own_classes(regions: Regions) -> ClassOrder:
    """The order of decoding where none is given: most classes first, each becomes the class that no later region has.

    Empty where a region has not exactly one such class.
    """
    order: ClassOrder = ()
    taken: set[int] = set()
    for name in sorted(regions, key=lambda name: (len(regions[name]), regions[name])):
        own = {*regions[name]} - taken
        if len(own) != 1:
            return ()
        order = ((name, min(own)), *order)
        taken |= own
    return order


def describe(regions: Regions) -> str:
    """Regions in words, whatever their order."""
    return ", ".join(f"{name} {list(members)}" for name, members in sorted(regions.items())) or "none"


def _value(given: Any, classes: Sequence[str]) -> Any:
    """The value of a class that is given by its name; anything else as it is."""
    return classes.index(given) if given in classes else given
