"""Reading one slice or volume, and refusing what cannot be right."""

import math
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import h5py
import numpy as np
from PIL import Image, UnidentifiedImageError

from medseg_kd.datasets.layouts import SliceFile
from medseg_kd.errors import UserError

_TOLERANCE = 1e-3
# 8-bit modes of Pillow; it would clip deeper pixels to 255 without a word.
_EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
# What NumPy, h5py and Pillow raise on damaged content; TypeError where the content is of another kind.
_UNREADABLE = (
    OSError,
    EOFError,
    KeyError,
    SyntaxError,
    TypeError,
    ValueError,
    UnidentifiedImageError,
    zipfile.BadZipFile,
    zlib.error,
)
_File = TypeVar("_File", str, Path)
_Content = TypeVar("_Content")
_Arrays: TypeAlias = tuple[np.ndarray, np.ndarray, tuple[float, ...] | None]


@dataclass(frozen=True)
class Pixels:
    """Image and label of a slice (H, W) or a case (S, H, W).

    Attributes:
        image: float32 in [0, 1].
        label: uint8 classes.
        spacing: (z, y, x) in mm, None where the file does not tell.
        geometry: Where a case lies, as ``tools/prepare_slices.py`` keeps it in an h5 volume: ``origin``, (x, y, z) in
            mm, ``direction``, 9 cosines row by row, both as SimpleITK has them, and ``orientation``, that of the file
            which the volume was made from, such as ``RAS``, or None. None where the file does not tell.
    """

    image: np.ndarray
    label: np.ndarray
    spacing: tuple[float, ...] | None = None
    geometry: dict[str, Any] | None = None


def read_slice(item: SliceFile, num_classes: int) -> Pixels:
    """Read a slice of either layout.

    Raises:
        UserError: A file is damaged, or its content is out of range.
    """
    if item.image == item.label:
        image, label, spacing = _read(item.image, _npz)
    else:
        image, label, spacing = _read(item.image, _grey), _read(item.label, _indexed), None
    return _checked(item.image, image, label, spacing, 2, num_classes)


def read_volume(source: Path | Sequence[SliceFile], num_classes: int) -> Pixels:
    """Read a case: an h5 volume, or its slices stacked in their order.

    Raises:
        UserError: As in :func:`read_slice`, or slices of one case differ in size.
    """
    if isinstance(source, Path):
        arrays, geometry = _read(source, _h5)
        return replace(_checked(source, *arrays, 3, num_classes), geometry=geometry)
    slices = [read_slice(item, num_classes) for item in source]
    sizes = {pixels.image.shape for pixels in slices}
    if len(sizes) > 1:
        raise UserError(f"case {source[0].case}: its slices differ in size ({sorted(sizes)}); a case needs one size")
    return Pixels(
        np.stack([pixels.image for pixels in slices]),
        np.stack([pixels.label for pixels in slices]),
        slices[0].spacing,
    )


def _read(path: _File, reader: Callable[[_File], _Content]) -> _Content:
    """What a reader makes of a file, with one error for all the ways in which a file can be damaged."""
    try:
        return reader(path)
    except _UNREADABLE as error:
        raise UserError(
            f"{path} cannot be read ({error}). The file is damaged or cut short: copy or prepare it again"
        ) from error


def _npz(path: str) -> _Arrays:
    """Image, label and spacing of a slice as TransUNet stores it."""
    with np.load(path) as file:
        return file["image"], file["label"], _numbers(file["spacing"]) if "spacing" in file else None


def _h5(path: Path) -> tuple[_Arrays, dict[str, Any] | None]:
    """A volume as TransUNet stores it, its spacing an attribute or a data set; and where it lies."""
    with h5py.File(path, "r") as file:
        spacing = file.attrs.get("spacing", file.get("spacing"))
        arrays = file["image"][:], file["label"][:], None if spacing is None else _numbers(spacing)
        if not {"origin", "direction"} <= file.attrs.keys():
            return arrays, None
        geometry = {name: _numbers(file.attrs[name]) for name in ("origin", "direction")}
        return arrays, {**geometry, "orientation": file.attrs.get("original_orientation")}


def _numbers(values: Any) -> tuple[float, ...]:
    """Numbers as plain floats."""
    return tuple(np.asarray(values, float).ravel().tolist())


def _grey(path: str) -> np.ndarray:
    """Grey values of an 8-bit image file, (H, W) in [0, 1]; a colour image that is grey loses nothing."""
    with Image.open(path) as image:
        if image.mode not in _EIGHT_BIT:
            raise UserError(
                f"{path}: pixels of PIL mode {image.mode}, expected 8-bit grey or RGB. Scale the intensities to 0..255 "
                "and save them again, or keep their precision in the TransUNet layout (docs/data.md)"
            )
        return np.asarray(image.convert("L"), np.float32) / 255


def _indexed(path: str) -> np.ndarray:
    """Pixel values of a label file; of a palette image, its indices."""
    with Image.open(path) as image:
        return np.asarray(image)


def _checked(
    path: str | Path,
    image: np.ndarray,
    label: np.ndarray,
    spacing: tuple[float, ...] | None,
    ndim: int,
    num_classes: int,
) -> Pixels:
    """Check shapes, range and classes; convert to float32 and uint8."""
    if image.ndim != ndim or image.shape != label.shape or not image.size:
        raise UserError(
            f"{path}: image {image.shape} and label {label.shape} should be two {ndim}-D arrays of one shape, not empty"
        )
    if spacing is not None and not (len(spacing) == 3 and all(0 < size < math.inf for size in spacing)):
        raise UserError(
            f"{path}: spacing {spacing}, expected three positive numbers: mm, (z, y, x). Correct or remove the entry"
        )
    lowest, highest = float(image.min()), float(image.max())
    if not (lowest >= -_TOLERANCE and highest <= 1 + _TOLERANCE):
        raise UserError(
            f"{path}: intensities lie in [{lowest:g}, {highest:g}], expected [0, 1]. Clip the Hounsfield units to a "
            "window and scale them, as tools/prepare_slices.py does"
        )
    return Pixels(image.astype(np.float32, copy=False), _classes(path, label, num_classes), spacing)


def _classes(path: str | Path, label: np.ndarray, num_classes: int) -> np.ndarray:
    """The label as uint8, once every value is a class."""
    with np.errstate(invalid="ignore"):
        classes = label.astype(np.uint8)
    if classes.max() < num_classes and np.array_equal(classes, label):
        return classes
    values = np.unique(label)
    wrong = values[~np.isin(values, np.arange(num_classes))].tolist()
    raise UserError(
        f"{path}: label values {', '.join(f'{value:g}' for value in wrong[:5])} are none of the {num_classes} "
        f"classes 0 to {num_classes - 1} of dataset.metainfo.classes. Name the missing classes there, or map the "
        "labels with tools/prepare_slices.py --label-map"
    )
