"""Label maps: which value of a source label becomes which class."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medseg_kd.errors import UserError

SYNAPSE_CLASSES = (
    "background",
    "aorta",
    "gallbladder",
    "left kidney",
    "right kidney",
    "liver",
    "pancreas",
    "spleen",
    "stomach",
)
MAX_CLASS = 254  # labels are bytes, and 255 is MMSegmentation's "ignore"

_BTCV = {8: 1, 4: 2, 3: 3, 2: 4, 6: 5, 11: 6, 1: 7, 7: 8}
_TOTALSEGMENTATOR = {52: 1, 4: 2, 3: 3, 2: 4, 5: 5, 7: 6, 1: 7, 6: 8}


@dataclass(frozen=True)
class LabelMap:
    """What becomes of every value of a source label.

    Args:
        name: ``none``, ``btcv``, ``totalsegmentator`` or the name of the user's file.
        targets: Class of each source value; None keeps all values as they are.
        others: Class of the values that ``targets`` does not name; None refuses them.
        classes: Class names, background first; empty where the map does not know them.
    """

    name: str
    targets: Mapping[int, int] | None
    others: int | None = None
    classes: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int | None:
        """Classes with background, or None where only the data can tell."""
        if self.targets is None:
            return None
        return 1 + max([*self.targets.values(), self.others or 0])

    def target(self, value: int) -> int | None:
        """Class of one source value, or None where the map refuses it."""
        if self.targets is None:
            return value if 0 <= value <= MAX_CLASS else None
        return self.targets.get(value, self.others)

    def apply(self, label: np.ndarray) -> np.ndarray:
        """Maps a label (S, H, W) of whole numbers >= 0 to classes (uint8, same shape); refused values are an error."""
        table = np.zeros(int(label.max()) + 1, dtype=np.uint8)
        for value in value_counts(label):
            target = self.target(value)
            if target is None:
                raise UserError(f"label value {value} has no class under the label map {self.name!r}")
            table[value] = target
        return table[label]

    def as_dict(self) -> dict[str, Any]:
        """The map in plain containers, for the manifest."""
        targets = None if self.targets is None else {str(k): v for k, v in sorted(self.targets.items())}
        return {"name": self.name, "targets": targets, "others": self.others}


def value_counts(label: np.ndarray) -> dict[int, int]:
    """Voxels of each value of a label (S, H, W) of whole numbers >= 0, counted slice by slice to save memory."""
    total = np.zeros(int(label.max()) + 1, dtype=np.int64)
    for plane in label:
        total += np.bincount(plane.ravel(), minlength=len(total))
    return {int(value): int(total[value]) for value in np.flatnonzero(total)}


def load_label_map(name: str) -> LabelMap:
    """Returns a built-in map (``none``, ``btcv``, ``totalsegmentator``) or reads one from a file.

    A file is JSON, ``{"<source value>": <class>}``, or text with ``<source value> <class>`` on each line. 0 stays 0
    unless the file says otherwise; the key ``*`` gives a class to all values that are not named, which are refused
    without it.
    """
    if name == "none":
        return LabelMap("none", None)
    if name in ("btcv", "totalsegmentator"):
        return LabelMap(name, _BTCV if name == "btcv" else _TOTALSEGMENTATOR, others=0, classes=SYNAPSE_CLASSES)
    path = Path(name)
    if not path.is_file():
        raise UserError(
            f"--label-map {name}: no built-in map and no file has this name. Use none, btcv, totalsegmentator, "
            'or a JSON file such as {"1": 7, "2": 4, "*": 0}.'
        )
    return _read_map(path)


def _read_map(path: Path) -> LabelMap:
    """Reads a label map file; every entry is checked."""
    text = path.read_text(encoding="utf-8")
    entries: list[tuple[str, Any]]
    if path.suffix.lower() == ".json":
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"label map {path} is not valid JSON: {error}") from error
        if not isinstance(content, dict):
            raise UserError(f'label map {path} must hold one JSON object such as {{"1": 7, "2": 4}}.')
        entries = list(content.items())
    else:
        lines = [line.split("#")[0].replace(":", " ").replace("=", " ").split() for line in text.splitlines()]
        wrong = [" ".join(line) for line in lines if line and len(line) != 2]
        if wrong:
            raise UserError(f"label map {path}: line {wrong[0]!r} must be `<source value> <class>`.")
        entries = [(line[0], line[1]) for line in lines if line]
    targets: dict[int, int] = {0: 0}
    others = None
    for source, target in entries:
        try:
            value, key = int(str(target)), None if source == "*" else int(source)
        except ValueError:
            raise UserError(f"label map {path}: {source!r} -> {target!r} must be two integers (or `*`).") from None
        if not 0 <= value <= MAX_CLASS:
            raise UserError(f"label map {path}: class {value} of {source} must lie in 0..{MAX_CLASS}.")
        if key is None:
            others = value
        else:
            targets[key] = value
    if len(entries) == 0:
        raise UserError(f"label map {path} names no value.")
    return LabelMap(path.name, targets, others)
