"""What the values of masks mean."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from medseg_kd.datasets.listings import read_json
from medseg_kd.datasets.manifest import NAME, spec_parts
from medseg_kd.datasets.masks import MaskFiles, MaskPair, read_labels
from medseg_kd.datasets.pairs import natural
from medseg_kd.errors import UserError, some
from medseg_kd.nnunet_files import label_values

LABEL_FILES = ("dataset.json", "labels.json", NAME)
_HOW = "Name all values with --labels dataset.json or --classes background ..."


@dataclass(frozen=True)
class MaskLabels:
    """Which values an organ has in files of labels; in a file of its own it is what is not 0.

    Attributes:
        organs: name to its values, several of a region.
        ignored: value of the truth where voxels are not scored.
    """

    organs: Mapping[str, Sequence[int]]
    ignored: int | None = None

    @cached_property
    def apart(self) -> bool:
        """Whether each organ has one value, and no two the same."""
        values = [value for values in self.organs.values() for value in values]
        return len(set(values)) == len(values) == len(self.organs)

    def checked(
        self, pred: np.ndarray, true: np.ndarray, files: tuple[MaskFiles, MaskFiles]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Label values of both, 0 where the truth is to be ignored, once each of them means something."""
        known = {0}.union(*self.organs.values())
        ignored_too = known if self.ignored is None else {*known, self.ignored}
        pred, true = (
            each if file.organs else _known(each, file.path, allowed, self.organs)
            for each, file, allowed in zip((pred, true), files, (known, ignored_too), strict=True)
        )
        if self.ignored is None or files[1].organs or not (ignored := true == self.ignored).any():
            return pred, true
        return np.where(ignored, 0, pred), np.where(ignored, 0, true)

    def numbered(self, values: np.ndarray) -> np.ndarray:
        """Values as numbers of the organs, from 1; 0 is background."""
        numbers = {value: number for number, (value,) in enumerate(self.organs.values(), start=1)}
        return values if all(map(operator.eq, *zip(*numbers.items(), strict=True))) else _table(numbers, values)[values]

    def of_organ(self, values: np.ndarray, organ: str, file: MaskFiles) -> np.ndarray:
        """Where an organ is, bool."""
        if file.organs is None:
            return _table(dict.fromkeys(self.organs[organ], 1), values)[values].view(bool)
        inside = values != 0
        if (values[inside] != values.max(initial=0)).any():
            raise UserError(
                f"{file.organs[organ]} holds the values {some([*map(str, np.unique(values))])}: expected those of one "
                "organ, 0 and another"
            )
        return inside


def find_labels(
    pairs: Sequence[MaskPair],
    truth: Path,
    classes: Sequence[str] | None,
    labels: str | Path | None,
    notes: list[str],
    run: Callable[[Callable[[MaskPair], list[int] | str]], Sequence[Any]],
) -> MaskLabels:
    """The organs of masks: as they are named, told by a file beside the truth, or found.

    Args:
        pairs: the masks.
        truth: folder or file of the true ones.
        classes, labels: see :func:`~medseg_kd.experiments.masks.evaluate`.
        notes: where to say how organs were found.
        run: gives what a function gives for each pair, or a text.
    """
    if classes and labels:
        raise UserError("--classes and --labels: give one of them")
    masks = [each for pair in pairs for each in (pair.prediction, pair.truth)]
    by_file = {organ: () for mask in masks[1::2] for organ in mask.organs or ()}
    maps = any(mask.organs is None for mask in masks)
    if classes:
        if classes[0].lower() != "background" or not 1 < len(set(classes)) == len(classes):
            raise UserError(
                f"--classes {' '.join(classes)}: expected a different name for each value 0, 1, ..., background first"
            )
        return MaskLabels({name: (value,) for value, name in enumerate(classes) if value})
    if labels:
        return _read(Path(labels))
    if by_file and not maps:
        return MaskLabels(dict.fromkeys(sorted(by_file, key=natural), ()))
    folder = truth if truth.is_dir() else truth.parent
    beside = (place / name for place in (folder, folder.resolve().parent) for name in LABEL_FILES)
    if file := next((each for each in beside if each.is_file()), None):
        notes.append(f"labels are those of {file}")
        return _read(file)
    if any(mask.organs for mask in masks):
        raise UserError(f"there are files of all organs and files of single ones: what is the value of each? {_HOW}")
    found = run(_values)
    values = sorted({value for each in found if not isinstance(each, str) for value in each} - {0})
    unread = [each for each in found if isinstance(each, str)]
    if len(unread) == len(found):
        raise UserError(f"no mask of {truth} can be read: {unread[0]}")
    if not values:
        raise UserError(f"{truth} holds no organ: all of it that can be read is 0{unread and f'; {unread[0]}' or ''}")
    notes.append(
        f"no label names beside {truth}: organs are called by the values found there, {some([*map(str, values)])}"
    )
    return MaskLabels({str(value): (value,) for value in values})


def _values(pair: MaskPair) -> list[int] | str:
    """Values of a truth, or in words why it cannot be read, which is told again when it is scored."""
    try:
        return np.unique(read_labels(pair.truth, False).image).tolist()
    except UserError as error:
        return str(error)


def _read(path: Path) -> MaskLabels:
    """Labels of a ``dataset.json`` or a manifest."""
    content = read_json(path, dict)
    if "labels" not in content:
        parts = spec_parts(content, str(path))
        if "classes" not in parts:
            raise UserError(f"{path} names no labels. {_HOW}")
        organs = parts.get("regions") or {name: (value,) for value, name in enumerate(parts["classes"]) if value}
        return MaskLabels(organs, parts.get("ignore_label"))
    values = label_values(content, path)
    ignored = values.pop("ignore", [None])
    organs = {name: tuple(members) for name, members in values.items() if {*members} != {0}}
    if not organs or not all(type(value) is int and 0 < value < 1 << 16 for each in organs.values() for value in each):
        raise UserError(f"{path}: labels is {content['labels']}: expected names of whole numbers, background 0")
    return MaskLabels(organs, ignored[0])


def _known(values: np.ndarray, path: Path, known: set[int], organs: Mapping[str, Any]) -> np.ndarray:
    """Values, once all of them are known; 255 of a black and white mask is the one organ."""
    if known.issuperset(range(int(values.max(initial=0)) + 1)):
        return values
    strange = _table(dict.fromkeys(known, 0), values, 1)[values].view(bool)
    if not strange.any():
        return values
    wrong = np.unique(values[strange]).tolist()
    if known == {0, 1} and wrong == [255] and not (values == 1).any():
        return (values == 255).astype(np.uint8)
    named = ", ".join(f"{name} {'+'.join(map(str, each))}" for name, each in organs.items())
    raise UserError(
        f"{path} holds the label values {some([*map(str, wrong)])}, which are none of the classes ({named}). {_HOW}"
    )


def _table(numbers: Mapping[int, int], values: np.ndarray, otherwise: int = 0) -> np.ndarray:
    """What becomes of each value."""
    kind = np.min_scalar_type(max([otherwise, *numbers.values()]))
    table = np.full(max([int(values.max(initial=0)), *numbers]) + 1, otherwise, kind)
    table[list(numbers)] = list(numbers.values())
    return table
