"""What a DICOM file tells of its slice, checked before its pixels are read: GDCM makes up what is missing."""

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medseg_kd.datasets.headers import checked_bytes
from medseg_kd.errors import UserError, first_line

_ENDINGS = (".dcm", ".ima")
"""Of names; many have none."""
_PREAMBLE, _MAGIC = 128, b"DICM"
_CLASS = b"\x02\x00\x02\x00UI"
"""Tag of the class of a file, before the length of the class and itself."""
_NO_IMAGES = ("1.2.840.10008.1.3.", *(f"1.2.840.10008.5.1.4.1.1.{each}." for each in (9, 11, 66, 88, 104, 481)))
"""Classes of indices, waveforms, presentations, segmentations, reports, documents and plans of radiotherapy."""
_CT = "1.2.840.10008.5.1.4.1.1.2"
_UNPACKED = ("1.2.840.10008.1.2", *(f"1.2.840.10008.1.2.{each}" for each in ("1", "1.99", "2")))
"""Transfer syntaxes of pixels that are not compressed; the first holds where none is told."""
_UNTIL_ITS_END = 0xFFFFFFFF
"""Length of a sequence, or of compressed pixels, that an element of their own ends."""
_LONG = 1 << 16
"""Bytes of an element that is not read here; no header needs one of them."""
_READ = (
    *("SOPClassUID", "SeriesInstanceUID", "SeriesDescription", "ImagePositionPatient", "ImageOrientationPatient"),
    *("PixelSpacing", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "RescaleSlope", "RescaleIntercept"),
)
"""What is looked at, beside the length of the pixels, which GDCM reads."""


@dataclass(frozen=True)
class DicomSlice:
    """A file of a series.

    Args:
        position: Of its first voxel, mm, (3,).
        axes: Directions of its rows and columns, (2, 3).
        size: Columns and rows.
        spacing: mm, of columns and of rows.
    """

    path: Path
    position: np.ndarray
    axes: np.ndarray
    size: tuple[int, int]
    spacing: tuple[float, float]


def is_image(path: Path) -> bool:
    """Whether a file is, or is named as, one of DICOM, and not of a class without an image."""
    if path.name.startswith(".") or not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(1024)
    _, told, rest = start.partition(_CLASS)
    kind = rest[2 : 2 + int.from_bytes(rest[:2], "little")].decode("ascii", "replace") if told else ""
    named = path.suffix.lower() in _ENDINGS or start[_PREAMBLE:].startswith(_MAGIC)
    return named and not kind.startswith(_NO_IMAGES)


def read_header(path: Path) -> Any:
    """The elements of a file, a pydicom data set, without those that are long.

    Raises:
        UserError: It cannot be read, or pydicom is not installed.
    """
    try:
        import pydicom
    except ImportError as error:
        raise UserError("DICOM series need a package: pip install pydicom") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = pydicom.dcmread(path, defer_size=_LONG, force=True)
            size = path.stat().st_size
            for elements in (getattr(found, "file_meta", {}), found):
                _check_elements(elements, size)
            for name in _READ:  # decoded here, for a damaged value raises what it likes
                found.get(name)
    # pydicom has no common base for what it raises on damaged content.
    except Exception as error:
        raise UserError(f"cannot read {path}: damaged or cut short ({first_line(error)}). Copy it again") from error
    if "PixelData" not in found:
        raise UserError(f"cannot read {path}: it holds no image. Copy it again, or take it out of the folder")
    return found


def _check_elements(elements: Any, size: int) -> None:
    """Refuse elements, also in sequences, of a kind that there is not, whose length GDCM takes from elsewhere, and such
    as are longer than the file, for which it takes memory before it looks.
    """
    from pydicom.valuerep import VR

    known = frozenset(VR)
    for tag in elements.keys():  # noqa: SIM118  # of a data set, whose values would be decoded
        item = elements.get_item(tag, keep_deferred=True)
        if item.VR is not None and item.VR not in known:
            raise ValueError(f"element {tag} is of a kind {item.VR!r}")
        if size < (getattr(item, "length", None) or 0) != _UNTIL_ITS_END:
            raise ValueError(f"element {tag} is longer than the file")
        for inner in elements[tag].value if item.VR == VR.SQ else ():
            _check_elements(inner, size)


def has_place(told: Any) -> bool:
    """Whether a file tells where its image lies."""
    return bool(told.get("ImagePositionPatient"))


def slice_of(path: Path, told: Any) -> DicomSlice:
    """The slice that a file tells of.

    Raises:
        UserError: It is not one grey slice that lies somewhere, with voxels of a size, and all its pixels.
    """
    frames, samples = _number(told, "NumberOfFrames", 1), _number(told, "SamplesPerPixel", 1)
    if (frames, samples) != (1, 1):
        raise UserError(
            f"{path} has {frames:g} frames of {samples:g} components: expected one grey slice. Convert it to a series "
            "of single slices, or to NIfTI (dcm2niix)"
        )
    position, axes = _numbers(told, "ImagePositionPatient", 3), _numbers(told, "ImageOrientationPatient", 6)
    if (
        position is None
        or axes is None
        or not np.allclose(axes.reshape(2, 3) @ axes.reshape(2, 3).T, np.eye(2), atol=1e-3)
    ):
        raise UserError(
            f"{path} does not tell where its slice lies (Image Position and Orientation): it is none of a volume. Take "
            "it out of the folder"
        )
    spacing = _numbers(told, "PixelSpacing", 2)
    if spacing is None or spacing.min() <= 0:
        raise UserError(f"{path} does not tell the size of its voxels (Pixel Spacing is {told.get('PixelSpacing')!r})")
    _check_values(path, told)
    rows, columns = (int(_number(told, name, 0)) for name in ("Rows", "Columns"))
    _check_pixels(path, told, rows, columns)
    return DicomSlice(path, position, axes.reshape(2, 3), (columns, rows), (float(spacing[1]), float(spacing[0])))


def _check_values(path: Path, told: Any) -> None:
    """Refuse values whose meaning is not told: of CT in Hounsfield units, of others as they are or rescaled."""
    kind = told.get("PhotometricInterpretation")
    if kind != "MONOCHROME2":
        raise UserError(f"{path} is {kind}, expected MONOCHROME2 (grey, larger is brighter). Convert the series")
    needed = str(told.get("SOPClassUID")) == _CT
    stored, signed = _number(told, "BitsStored", 0), _number(told, "PixelRepresentation", -1)
    if not 1 <= stored <= _number(told, "BitsAllocated", 0) or _number(told, "HighBit", -1) != stored - 1:
        raise UserError(f"{path} does not tell which bits of a pixel are stored. Write it anew")
    if signed not in (0, 1):
        raise UserError(f"{path} does not tell whether pixels have a sign (Pixel Representation). Write it anew")
    names = [name for name in ("RescaleSlope", "RescaleIntercept") if needed or name in told]
    wrong = [name for name in names if (value := _numbers(told, name, 1)) is None or (name[7] == "S" and value[0] == 0)]
    if wrong or len(names) == 1:
        both = ", ".join(f"{name} {told.get(name)!r}" for name in ("RescaleSlope", "RescaleIntercept"))
        raise UserError(f"{path} does not tell what its values are ({both}): expected a slope and an intercept")


def _check_pixels(path: Path, told: Any, rows: int, columns: int) -> None:
    """Refuse a file that does not hold the pixels that it tells of; compressed ones are checked by unpacking."""
    bits = int(_number(told, "BitsAllocated", 0))
    if min(rows, columns) < 1 or bits not in (8, 16, 32):
        raise UserError(f"{path} tells of {rows}x{columns} pixels of {bits} bits: expected an image of 8, 16 or 32")
    expected = checked_bytes((rows, columns), np.dtype(f"u{bits // 8}"), path)
    syntax = getattr(getattr(told, "file_meta", None), "TransferSyntaxUID", _UNPACKED[0])
    element = told.get_item("PixelData", keep_deferred=True)
    held = getattr(element, "length", None) or len(element.value or b"")
    if syntax in _UNPACKED and held != expected + expected % 2:
        raise UserError(
            f"cannot read {path}: it holds {held} bytes of pixels, but tells of {rows}x{columns} of {bits} bits, "
            f"{expected} bytes. Copy it again"
        )


def _number(told: Any, name: str, default: float) -> float:
    """One number of a file; NaN where it is none."""
    if told.get(name) in (None, ""):
        return default
    found = _numbers(told, name, 1)
    return math.nan if found is None else float(found[0])


def _numbers(told: Any, name: str, count: int) -> np.ndarray | None:
    """Finite numbers of a file; None where they are not there."""
    try:
        values = np.array(told.get(name), float).reshape(-1)
    except (TypeError, ValueError):
        return None
    return values if len(values) == count and np.isfinite(values).all() else None
