"""From what a file holds to what a network sees: channels, intensities, classes; and refusing what cannot be right."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medseg_kd.datasets.intensities import Stored
from medseg_kd.datasets.spec import IGNORED, DataSpec
from medseg_kd.errors import UserError

_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Raw:
    """Arrays as a file holds them, of a slice or of a volume.

    Args:
        image: (C, H, W) or (C, S, H, W), or without the first axis where there is one channel.
        label: (H, W) or (S, H, W) class values; None where there are none.
        spacing: (z, y, x) in mm, None where the file does not tell.
        geometry: Where a case lies: ``origin``, (x, y, z) in mm, ``direction``, 9 cosines row by row, both as SimpleITK
            has them, and ``orientation``, that of the source file, such as ``RAS``, or None. None where the file does
            not tell.
        label_file: The file of the label, for messages; None where it is that of the image.
    """

    image: np.ndarray
    label: np.ndarray | None = None
    spacing: tuple[float, ...] | None = None
    geometry: dict[str, Any] | None = None
    label_file: Path | None = None


@dataclass(frozen=True)
class Pixels:
    """Image and label as the network and its losses take them; ``spacing`` and ``geometry`` as in :class:`Raw`.

    Attributes:
        image: (C, H, W) of a slice, (S, C, H, W) of a case, float32.
        label: (H, W) or (S, H, W) uint8 classes, ``IGNORED`` where pixels take no part; None without a label.
    """

    image: np.ndarray
    label: np.ndarray | None
    spacing: tuple[float, ...] | None = None
    geometry: dict[str, Any] | None = None

    @property
    def label_or_ignored(self) -> np.ndarray:
        """The label; of a slice without one ``IGNORED`` everywhere."""
        return np.full(self.image.shape[1:], IGNORED, np.uint8) if self.label is None else self.label


def to_pixels(raw: Raw, spec: DataSpec, ndim: int, where: str | Path, prepared: bool = False) -> Pixels:
    """Check a slice or volume and bring it to the form that the spec says.

    Args:
        raw: Content of the file.
        spec: What the images should be.
        ndim: 2 for a slice, 3 for a volume.
        where: The file, for messages.
        prepared: The values are those that the intensity rules gave, not those that they take.
    """
    image = raw.image[None] if raw.image.ndim == ndim else raw.image
    shape = image.shape[1:]
    if image.ndim != ndim + 1 or not image.size or (raw.label is not None and raw.label.shape != shape):
        beside = "none" if raw.label is None else raw.label.shape
        raise UserError(
            f"{where}: image {raw.image.shape} and label {beside} should be two {ndim}-D arrays of one shape, not "
            "empty, the image's channels first where it has several"
        )
    names = [channel.name for channel in spec.channels]
    if len(image) != len(names):
        raise UserError(
            f"{where}: {len(image)} channel(s), expected {len(names)} ({', '.join(names)}). Name the channels of these "
            "images in dataset.spec"
        )
    if image.dtype.kind not in "iuf":
        raise UserError(f"{where}: an image of {image.dtype}, expected whole or real numbers")
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        bad = image.size - int(np.isfinite(image).sum())
        raise UserError(
            f"{where}: {bad} of {image.size} image values are NaN or infinite. Correct or leave out the file"
        )
    if raw.spacing is not None and not (len(raw.spacing) == 3 and all(0 < mm < float("inf") for mm in raw.spacing)):
        raise UserError(
            f"{where}: spacing {raw.spacing}, expected three positive numbers: mm, (z, y, x). Correct or remove the "
            "entry"
        )
    planes = np.empty(image.shape, np.float32)
    for plane, values, channel in zip(planes, image, spec.channels, strict=True):
        rule = channel.intensity
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                plane[...] = _given(values, rule.bounded) if prepared or isinstance(rule, Stored) else rule(values)
        except UserError as error:
            raise UserError(f"{where}, channel {channel.name}: {error}") from error
        if not (prepared and rule.bounded) and not np.isfinite(plane).all():
            largest = abs(values).max()
            raise UserError(f"{where}, channel {channel.name}: values of up to {largest:g} are too large for float32")
    label = None if raw.label is None else to_classes(raw.label, spec, raw.label_file or where)
    return Pixels(planes.swapaxes(0, 1) if ndim == 3 else planes, label, raw.spacing, raw.geometry)


def to_classes(label: np.ndarray, spec: DataSpec, where: str | Path) -> np.ndarray:
    """The label as uint8, once every value is a class or marks pixels to ignore.

    A mask of 0 and 255 is black and white: where there are two classes, and 255 is not to be ignored, white is the
    second.
    """
    if label.dtype.kind not in "iufb":
        raise UserError(f"{where}: a label of {label.dtype}, expected whole numbers")
    with np.errstate(invalid="ignore"):
        classes = label.astype(np.uint8)
    if classes.max(initial=0) < spec.num_classes and np.array_equal(classes, label):
        return classes
    values = np.unique(label).tolist()
    if is_black_and_white(values, spec):
        return (classes == 255).astype(np.uint8)
    if wrong := unknown_values(values, spec):
        ignored = f", and {spec.ignore_label} is ignored" if spec.ignore_label is not None else ""
        raise UserError(
            f"{where}: label values {', '.join(f'{value:g}' for value in wrong[:5])} are none of the "
            f"{spec.num_classes} classes 0 to {spec.num_classes - 1} ({', '.join(spec.classes)}){ignored}. "
            f"{mending(values, spec)}"
        )
    return np.where(label == spec.ignore_label, np.uint8(IGNORED), classes)


def unknown_values(values: Sequence[float], spec: DataSpec) -> list[float]:
    """Those values of a label that are no class and mark nothing."""
    known = {*range(spec.num_classes), spec.ignore_label}
    return [] if is_black_and_white(values, spec) else [value for value in values if value not in known]


def mending(values: Sequence[float], spec: DataSpec) -> str:
    """What to do about a label with these values, some of which are no class."""
    wrong, count = unknown_values(values, spec), spec.num_classes
    if {*values} <= {0, 255}:
        return (
            "White (255) is one class: name two in dataset.spec, or write its number in place of 255. If it marks what "
            "is to be ignored, set dataset.spec=dict(ignore_label=255)"
        )
    if wrong == [255]:
        return "If 255 marks what is to be ignored, set dataset.spec=dict(ignore_label=255)"
    if {"liver", "spleen", "pancreas"} <= {*spec.classes} and max(values) <= 117:
        source = "btcv" if max(values) <= 13 else "totalsegmentator"
        return (
            f"They look like the organs of {source}: convert the volumes with tools/prepare_slices.py --label-map "
            f"{source}, or name all classes in dataset.spec"
        )
    if len(values) <= count and max(values) <= 255 and 0 in values:
        places = [f"{value:g} as {place}" for place, value in enumerate(values) if value != place]
        return f"Write {', '.join(places)}, or name all classes in dataset.spec"
    return (
        "Name the missing classes in dataset.spec, or the value to ignore as its ignore_label, or map the labels "
        "(docs/data.md)"
    )


def is_black_and_white(values: Sequence[float], spec: DataSpec) -> bool:
    """Whether a label with these values, in their order, is a mask whose white (255) is the second of two classes."""
    return spec.num_classes == 2 and spec.ignore_label is None and list(values) in ([255], [0, 255])


def stack_neighbours(planes: np.ndarray, around: int) -> np.ndarray:
    """Each slice of (S, C, H, W) with so many ``around`` it, (S, (2 * around + 1) * C, H, W).

    Beyond the ends of a case its last slice stands in.
    """
    if not around:
        return planes
    places = np.arange(len(planes))[:, None] + np.arange(-around, around + 1)
    return planes[places.clip(0, len(planes) - 1)].reshape(len(planes), -1, *planes.shape[2:])


def _given(values: np.ndarray, bounded: bool) -> np.ndarray:
    """Values that an intensity rule gave, in [0, 1] where it is bounded."""
    lowest, highest = float(values.min()), float(values.max())
    if bounded and not (lowest >= -_TOLERANCE and highest <= 1 + _TOLERANCE):
        raise UserError(
            f"intensities lie in [{lowest:g}, {highest:g}], expected [0, 1]. Clip the Hounsfield units to a window "
            "and scale them, as tools/prepare_slices.py does, or name the rule for them in dataset.spec"
        )
    return values
