"""Checks of one file, and what the others need to know of it."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from medseg_kd.datasets.checks.findings import Checks, Finding
from medseg_kd.datasets.formats.base import Format
from medseg_kd.datasets.integrity import opened
from medseg_kd.datasets.intensities import RGB8, Stored, Window
from medseg_kd.datasets.pixels import Raw, to_pixels
from medseg_kd.errors import UserError

FILE_CHECKS: Checks["OpenFile"] = Checks()


@dataclass(frozen=True)
class OpenFile:
    """A slice or volume that was read; ``where`` it and its label lie, ``ndim`` its axes without the channels'."""

    where: str
    label_where: str
    raw: Raw
    reader: Format
    ndim: int

    @cached_property
    def image(self) -> np.ndarray:
        """(C, H, W) or (C, S, H, W)."""
        return self.raw.image[None] if self.raw.image.ndim == self.ndim else self.raw.image

    @cached_property
    def range(self) -> tuple[float, float]:
        """Lowest and highest value; none of what are no numbers."""
        if self.image.dtype.kind not in "iufb" or not self.image.size:
            return np.inf, -np.inf
        return float(self.image.min()), float(self.image.max())


@dataclass(frozen=True)
class Record:
    """What is kept of a file.

    Args:
        split: Its split, ``case`` and slice ``number`` (None of a volume).
        findings: Of the file alone.
        shape: (H, W) or (S, H, W); None where it cannot be read, as the rest.
        planes: A digest of each slice; None of constant ones, which are alike by chance.
        pixels: Label value to pixels; None without a label.
    """

    split: str
    case: str
    number: int | None
    where: str
    findings: tuple[Finding, ...] = ()
    shape: tuple[int, ...] | None = None
    range: tuple[float, float] = (np.inf, -np.inf)
    spacing: tuple[float, ...] | None = None
    planes: tuple[bytes | None, ...] = ()
    pixels: dict[int, int] | None = None
    label_where: str = ""


def read_record(reader: Format, split: str, case: str, number: int | None, source: Any) -> Record:
    """Read and check one file, or what belongs together of several."""
    files = files_of(source)
    places = [*map(str, files)] or [str(source)]  # the label's is the last
    record = Record(split, case, number, places[0], label_where=places[-1])
    try:
        file = OpenFile(places[0], places[-1], opened(source, reader.load), reader, 2 if number is not None else 3)
    except (UserError, MemoryError) as error:
        return replace(record, findings=(Finding.of_error("unreadable", error, files),))
    return replace(
        record,
        findings=tuple(FILE_CHECKS(file)),
        shape=file.image.shape[1:],
        range=file.range,
        spacing=file.raw.spacing,
        planes=_digests(file.image, file.ndim),
        pixels=_counted(file.raw.label),
    )


def files_of(source: Any) -> list[Path]:
    """The files of a source; those of a format of one's own may not be told."""
    inner = source if isinstance(source, (tuple, list)) else (source,)
    return [file for each in inner for file in ([each] if isinstance(each, Path) else files_of(each) if each else ())]


@FILE_CHECKS.add
def unfit_image(file: OpenFile) -> Iterator[Finding]:
    """What a training would refuse: channels, type, NaN, values that cannot be what the intensity rule takes."""
    try:
        to_pixels(replace(file.raw, label=None), file.reader.spec, file.ndim, file.where, file.reader.prepared)
    except UserError as error:
        yield Finding.of_error("image", error, [file.where])


@FILE_CHECKS.add
def unfit_label(file: OpenFile) -> Iterator[Finding]:
    """Labels that do not lie on their image, or are none."""
    label, where = file.raw.label, file.label_where
    if label is None or file.image.ndim != file.ndim + 1:
        return
    if label.shape != file.image.shape[1:]:
        sizes = f"a label of {label.shape}", f"the {file.image.shape[1:]} of its image"
        yield Finding("label", where, *sizes, "Take image and label of one case, on one grid")
    elif label.dtype.kind not in "iufb" or _counted(label) is None:
        found = f"{label.dtype} values that are no whole numbers from 0 to 65535"
        yield Finding("label", where, found, "classes", "Take the original label; resize labels by nearest neighbours")


@FILE_CHECKS.add
def constant(file: OpenFile) -> Iterator[Finding]:
    """Images without content; a slice of a case may be empty where nothing of its label is in it."""
    low, high = file.range
    if low == high:
        marked = file.raw.label is not None and bool(np.any(file.raw.label))
        found = f"all pixels are {low:g}" + " but the label marks some" * marked
        remedy = "Export the image again, or leave it out"
        yield Finding("constant", file.where, found, "an image", remedy, marked or file.ndim == 3)


@FILE_CHECKS.add
def scale(file: OpenFile) -> Iterator[Finding]:
    """Values that the intensity rule takes, but that it was hardly made for."""
    low, high = file.range
    rule = file.reader.spec.channels[0].intensity
    if file.reader.prepared and rule.bounded:
        rule = Stored()
    if isinstance(rule, Window) and rule.low < 0 <= low and high > low:
        hint = "were scaled already" if high <= 1 else "begin at 0"
        remedy = "Store Hounsfield units (subtract 1024 where 0 is air), or name the rule for these values"
        yield Finding("scale", file.where, f"values from {low:g} to {high:g}, which {hint}", str(rule), remedy, False)
    limit = 16 if isinstance(rule, RGB8) else 0.05 if isinstance(rule, Stored) else 0
    if low < high < limit:
        remedy = "Is this a label, or was it divided by 255 twice? Export the image again"
        yield Finding("scale", file.where, f"values from {low:g} to {high:g}, almost black", str(rule), remedy, False)


def _digests(image: np.ndarray, ndim: int) -> tuple[bytes | None, ...]:
    """A digest of each plane of (C, H, W) or (C, S, H, W) that is not constant."""
    planes = image[:, None] if ndim == 2 else image
    if planes.ndim != 4 or not planes.size or planes.dtype.kind not in "iufb":
        return ()
    each = (np.ascontiguousarray(planes[:, index], np.float32) for index in range(planes.shape[1]))
    return tuple(
        None if np.ptp(plane) == 0 else hashlib.blake2b(plane.tobytes(), digest_size=16).digest() for plane in each
    )


def _counted(label: np.ndarray | None) -> dict[int, int] | None:
    """Pixels of each value; None where there is no label, or it is none."""
    if label is None or label.dtype.kind not in "iufb" or not label.size:
        return None
    with np.errstate(invalid="ignore"):
        values = label.astype(np.uint16)
    if not np.array_equal(values, label):
        return None
    counts = np.bincount(values.ravel())
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
