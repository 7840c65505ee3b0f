"""What viewers need to show a label file: the name and a colour of each value."""

import colorsys
import json
from collections.abc import Sequence
from pathlib import Path

from ..files import write_text

LABEL_TABLES = ("labels.json", "labels.txt", "labels.ctbl")
_TURN = 0.61803398875
"""Of the circle of hues from a colour to the next (the golden section), so that no two of many are near."""


def colour(value: int) -> tuple[int, int, int]:
    """Red, green and blue of a label value, 0 to 255: always the same, whatever other values there are."""
    if value == 0:
        return 0, 0, 0
    rows = (value - 1) // 8  # where hues come close to earlier ones, other shades
    red, green, blue = colorsys.hsv_to_rgb((value - 1) * _TURN % 1, (0.9, 0.5, 0.7)[rows % 3], (1, 0.9, 0.65)[rows % 3])
    return round(255 * red), round(255 * green), round(255 * blue)


def write_label_tables(folder: Path, classes: Sequence[str]) -> None:
    """Write ``labels.json``, ``labels.txt`` (label descriptions of ITK-SNAP), ``labels.ctbl`` (colour table of Slicer).

    Args:
        classes: Names of the values 0, 1 and so on; 0 is background, which is shown clear.
    """
    named = json.dumps({"labels": {name: value for value, name in enumerate(classes)}}, indent=2, ensure_ascii=False)
    snap, slicer = ["# index red green blue opacity visible mesh name"], ["# index name red green blue opacity"]
    for value, name in enumerate(classes):
        red, green, blue = colour(value)
        shown = int(value > 0)
        text = " ".join(name.replace('"', "'").split())
        snap.append(f'{value:5} {red:4} {green:4} {blue:4} {shown:8} {shown:2} {shown:2}    "{text}"')
        slicer.append(f"{value} {text.replace(' ', '_')} {red} {green} {blue} {255 * shown}")
    for name, lines in zip(LABEL_TABLES, ([named], snap, slicer), strict=True):
        write_text(folder / name, "\n".join(lines) + "\n")
