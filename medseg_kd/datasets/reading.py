"""Reading one slice or volume, and refusing what cannot be right."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from PIL import Image, UnidentifiedImageError

from medseg_kd.datasets.layouts import SliceFile
from medseg_kd.errors import UserError

_TOLERANCE = 1e-3
_UNREADABLE = (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, UnidentifiedImageError)


@dataclass(frozen=True)
class Pixels:
    """Image and label of a slice (H, W) or a case (S, H, W).

    Attributes:
        image: float32 in [0, 1].
        label: uint8 classes.
        spacing: (z, y, x) in mm, None where the file does not tell.
    """

    image: np.ndarray
    label: np.ndarray
    spacing: tuple[float, ...] | None = None


def read_slice(item: SliceFile, num_classes: int) -> Pixels:
    """Read a slice of either layout.

    Raises:
        UserError: The file is damaged, or its content is out of range.
    """
    try:
        if item.image == item.label:
            with np.load(item.image) as file:
                image, label = file["image"], file["label"]
                spacing = tuple(file["spacing"].tolist()) if "spacing" in file else None
        else:
            image = np.asarray(Image.open(item.image).convert("L"), np.float32) / 255
            label, spacing = np.asarray(Image.open(item.label)), None
    except _UNREADABLE as error:
        raise _damaged(item.image, error) from error
    return _checked(item.image, image, label, spacing, 2, num_classes)


def read_volume(source: Path | Sequence[SliceFile], num_classes: int) -> Pixels:
    """Read a case: an h5 volume, or its slices stacked in their order.

    Raises:
        UserError: As in :func:`read_slice`, or slices of one case differ in size.
    """
    if isinstance(source, Path):
        try:
            with h5py.File(source, "r") as file:
                image, label = file["image"][:], file["label"][:]
                told = file.attrs.get("spacing", file.get("spacing"))
                spacing = tuple(np.asarray(told, float).tolist()) if told is not None else None
        except _UNREADABLE as error:
            raise _damaged(source, error) from error
        return _checked(source, image, label, spacing, 3, num_classes)
    slices = [read_slice(item, num_classes) for item in source]
    sizes = {pixels.image.shape for pixels in slices}
    if len(sizes) > 1:
        raise UserError(f"case {source[0].case}: its slices differ in size ({sorted(sizes)}); a case needs one size")
    return Pixels(
        np.stack([pixels.image for pixels in slices]),
        np.stack([pixels.label for pixels in slices]),
        slices[0].spacing,
    )


def _checked(
    path: str | Path,
    image: np.ndarray,
    label: np.ndarray,
    spacing: tuple[float, ...] | None,
    ndim: int,
    num_classes: int,
) -> Pixels:
    """Check shapes, range and classes; convert to float32 and uint8."""
    if image.ndim != ndim or image.shape != label.shape:
        raise UserError(
            f"{path}: image {image.shape} and label {label.shape} should be two {ndim}-D arrays of one shape"
        )
    lowest, highest = float(image.min()), float(image.max())
    if not (lowest >= -_TOLERANCE and highest <= 1 + _TOLERANCE):
        raise UserError(
            f"{path}: intensities lie in [{lowest:g}, {highest:g}], expected [0, 1]. Clip the Hounsfield units to a "
            "window and scale them, as tools/prepare_slices.py does"
        )
    values = np.unique(label)
    wrong = [value for value in values.tolist() if value != int(value) or not 0 <= value < num_classes]
    if wrong:
        raise UserError(
            f"{path}: label values {', '.join(f'{value:g}' for value in wrong[:5])} are none of the {num_classes} "
            f"classes 0 to {num_classes - 1} of dataset.metainfo.classes. Name the missing classes there, or map the "
            "labels with tools/prepare_slices.py --label-map"
        )
    return Pixels(image.astype(np.float32, copy=False), label.astype(np.uint8), spacing)


def _damaged(path: str | Path, error: Exception) -> UserError:
    """The error for a file that cannot be read."""
    return UserError(f"{path} cannot be read ({error}). The file is damaged or cut short: copy or prepare it again")
