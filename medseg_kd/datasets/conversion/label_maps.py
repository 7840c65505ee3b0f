"""Label maps: which value of a source label becomes which class."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medseg_kd.datasets.listings import read_json, read_text
from medseg_kd.datasets.spec import MAX_CLASSES
from medseg_kd.errors import UserError

_ORGANS = ("aorta", "gallbladder", "left kidney", "right kidney", "liver", "pancreas", "spleen", "stomach")
SYNAPSE_CLASSES = ("background", *_ORGANS)
MAX_CLASS = MAX_CLASSES - 1


@dataclass(frozen=True)
class LabelMap:
    """What becomes of every value of a source label.

    Args:
        name: That of a built-in map, or of the user's file.
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
        return None if self.targets is None else 1 + max([*self.targets.values(), self.others or 0])

    def target(self, value: int) -> int | None:
        """Class of one source value, or None where the map refuses it."""
        if self.targets is None:
            return value if 0 <= value <= MAX_CLASS else None
        return self.targets.get(value, self.others)

    def apply(self, label: np.ndarray) -> np.ndarray:
        """Maps a label (S, H, W) of whole numbers >= 0 to classes (uint8, same shape); refused values are an error."""
        table = np.zeros(int(label.max()) + 1, dtype=np.uint8)
        for value in values_of(label):
            target = self.target(value)
            if target is None:
                raise UserError(f"label value {value} has no class under the label map {self.name!r}")
            table[value] = target
        return table[label]

    def as_dict(self) -> dict[str, Any]:
        """The map in plain containers, for the manifest."""
        targets = None if self.targets is None else {str(k): v for k, v in sorted(self.targets.items())}
        return {"name": self.name, "targets": targets, "others": self.others}


_BTCV = {8: 1, 4: 2, 3: 3, 2: 4, 6: 5, 11: 6, 1: 7, 7: 8}
_TOTALSEGMENTATOR = {52: 1, 4: 2, 3: 3, 2: 4, 5: 5, 7: 6, 1: 7, 6: 8}
# Numbers of AMOS22's dataset.json, of the FLARE22 challenge's page and of LiTS.
_ADRENALS = ("right adrenal gland", "left adrenal gland")
_AMOS = (
    *("background", "spleen", "right kidney", "left kidney", "gallbladder", "esophagus", "liver", "stomach", "aorta"),
    *("inferior vena cava", "pancreas", *_ADRENALS, "duodenum", "bladder", "prostate or uterus"),
)
_FLARE = (
    *("background", "liver", "right kidney", "spleen", "pancreas", "aorta", "inferior vena cava", *_ADRENALS),
    *("gallbladder", "esophagus", "stomach", "duodenum", "left kidney"),
)


def _own(name: str, classes: tuple[str, ...]) -> LabelMap:
    """The classes of a data set as they are; no other value."""
    return LabelMap(name, {value: value for value in range(len(classes))}, None, classes)


def _to_synapse(name: str, classes: tuple[str, ...]) -> LabelMap:
    """The Synapse organs among the classes of a data set."""
    targets = {value: SYNAPSE_CLASSES.index(each) for value, each in enumerate(classes) if each in SYNAPSE_CLASSES}
    return LabelMap(name, targets, 0, SYNAPSE_CLASSES)


_BUILT_IN = {
    label_map.name: label_map
    for label_map in (
        LabelMap("none", None),
        LabelMap("btcv", _BTCV, 0, SYNAPSE_CLASSES),
        LabelMap("totalsegmentator", _TOTALSEGMENTATOR, 0, SYNAPSE_CLASSES),
        _to_synapse("amos", _AMOS),
        _own("amos15", _AMOS),
        _to_synapse("flare", _FLARE),
        _own("flare13", _FLARE),
        _own("lits", ("background", "liver", "tumor")),
    )
}


def values_of(label: np.ndarray) -> list[int]:
    """The values that a label (S, H, W) of whole numbers >= 0 has, found slice by slice to save memory."""
    length = int(label.max()) + 1
    return np.flatnonzero(sum(np.bincount(plane.ravel(), minlength=length) for plane in label)).tolist()


def load_label_map(name: str) -> LabelMap:
    """Returns a built-in map (``none``, ``btcv``, ``amos`` and so on) or reads one from a file.

    A file is JSON, ``{"<source value>": <class>}``, or text with ``<source value> <class>`` on each line. 0 stays 0
    unless the file says otherwise; the key ``*`` gives a class to all values that are not named, which are refused
    without it.
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    path = Path(name)
    if not path.is_file():
        raise UserError(
            f"--label-map {name}: no built-in map and no file has this name. Use {', '.join(_BUILT_IN)}, "
            'or a JSON file such as {"1": 7, "2": 4, "*": 0}.'
        )
    targets = {"0": 0}
    for source, target in _entries(path):
        try:
            key, value = source if source == "*" else str(int(source)), int(str(target))
        except ValueError:
            raise UserError(
                f"label map {path}: {source!r:.60} -> {target!r:.60} must be two integers (or `*`)."
            ) from None
        if not 0 <= value <= MAX_CLASS:
            raise UserError(f"label map {path}: class {value} of {source} must lie in 0..{MAX_CLASS}.")
        targets[key] = value
    others = targets.pop("*", None)
    return LabelMap(path.name, {int(key): value for key, value in targets.items()}, others)


def _entries(path: Path) -> Iterable[tuple[str, Any]]:
    """Source value and class of each entry of a file, as they stand there."""
    if path.suffix.lower() == ".json":
        entries = list(read_json(path, dict).items())
    else:
        lines = [
            line.split("#")[0].replace(":", " ").replace("=", " ").split() for line in read_text(path).splitlines()
        ]
        if wrong := [" ".join(line) for line in lines if line and len(line) != 2]:
            raise UserError(f"label map {path}: line {wrong[0]!r} must be `<source value> <class>`.")
        entries = [(line[0], line[1]) for line in lines if line]
    if not entries:
        raise UserError(f"label map {path} names no value.")
    return entries
