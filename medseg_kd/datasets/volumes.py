"""Reading volumes with SimpleITK: headers compared, content checked, axes turned to LPS."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from medseg_kd.datasets.integrity import check_whole
from medseg_kd.datasets.pixels import Raw
from medseg_kd.errors import UserError, last_line

VOLUMES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr")
ORIENTATION = "LPS"
"""Rows run from front to back, columns from the patient's right to the left, slices from feet to head."""
MAX_LABEL = 65535
_KINDS = (*(f"{sign}Int{bits}" for sign in ("U", "") for bits in (8, 16, 32, 64)), "Float32", "Float64")
_SCALARS = {getattr(sitk, f"sitk{kind}") for kind in _KINDS}


@dataclass(frozen=True)
class Header:
    """Where the voxels of a file lie, as SimpleITK tells it.

    Args:
        size: Voxels, (x, y, z), as in the file.
        spacing: mm, (x, y, z).
        origin: mm, (x, y, z), of the first voxel.
        direction: 9 direction cosines, row by row.
    """

    path: Path
    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]

    @property
    def slices(self) -> int:
        """Slices once the volume is turned to LPS."""
        return next(size for size, axis in zip(self.size, _orientation(self.direction), strict=True) if axis in "SI")

    def differences(self, other: "Header") -> list[str]:
        """In what another file's grid differs, a line each."""
        both = f"{self.path.name} and {other.path.name} differ in"
        found = [f"{both} size {self.size} and {other.size} (x, y, z)"] if self.size != other.size else []
        for name, unit, relative, absolute in (
            ("spacing", " mm", 1e-3, 1e-8),
            ("origin", " mm", 0, 0.02 * min(self.spacing)),
            ("direction", "", 0, 1e-3),
        ):
            own, its = getattr(self, name), getattr(other, name)
            if not np.allclose(own, its, rtol=relative, atol=absolute):
                found.append(f"{both} {name} {_short(own)} and {_short(its)}{unit}")
        return found


def check_grids(cases: Iterable[Sequence[Path]], title: str) -> list[Header]:
    """Compare the headers of the files of each case: its channels, and its label if it has one.

    Returns:
        Header of the first file of each case.

    Raises:
        UserError: What is wrong with all cases, below the title.
    """
    first, problems = [], []
    for files in cases:
        headers = []
        for file in files:
            try:
                headers.append(read_header(file))
            except UserError as error:
                problems.append(str(error))
        first += headers[:1]
        problems += [line for header in headers[1:] for line in headers[0].differences(header)]
    if problems:
        raise UserError("\n  ".join([f"{title}:", *problems]))
    return first


def read_header(path: Path) -> Header:
    """Read the header of a file: of one scalar volume that has a place."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        check_whole(path)
        raise UserError(f"cannot read {path}: {_reason(error)}") from error
    if reader.GetDimension() != 3 or reader.GetNumberOfComponents() != 1 or reader.GetPixelID() not in _SCALARS:
        raise UserError(
            f"{path} has {reader.GetDimension()} dimensions and {reader.GetNumberOfComponents()} components of "
            f"{sitk.GetPixelIDValueAsString(reader.GetPixelID())}: expected one volume of whole or real numbers (3 "
            "dimensions, 1 component). Split series and channels into one file each."
        )
    header = Header(path, reader.GetSize(), reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())
    if not np.isfinite([*header.spacing, *header.origin, *header.direction]).all() or min(header.spacing) <= 0:
        raise UserError(
            f"{path} has the spacing {_short(header.spacing)}, the origin {_short(header.origin)} and the direction "
            f"{_short(header.direction)}: expected numbers. Correct its header"
        )
    return header


def read_label(path: Path) -> sitk.Image:
    """Read a label of any pixel type whose values are whole numbers, as uint8, or uint16 where they are larger."""
    image = _read(path)
    if image.GetPixelID() == sitk.sitkUInt8:
        return image
    values = sitk.GetArrayViewFromImage(image)
    if values.dtype.kind == "f" and not np.array_equal(values, np.rint(values)):
        raise UserError(f"{path} holds values that are not whole numbers: it is not a label, or was interpolated.")
    if values.min() < 0 or values.max() > MAX_LABEL:
        raise UserError(f"{path} holds values from {values.min()} to {values.max()}: expected labels in 0..65535.")
    return sitk.Cast(image, sitk.sitkUInt8 if values.max() < 256 else sitk.sitkUInt16)


def read_volume(images: Sequence[Path], label: Path | None) -> Raw:
    """Read a case, a file a channel, and turn it to LPS.

    All files are turned as the first one: their headers agree (:func:`check_grids`), but for rounding, which must not
    decide where an axis at 45 degrees points to.

    Returns:
        Image (C, S, H, W) in the type of the files, label (S, H, W) uint8 or uint16.
    """
    first = _read(images[0])
    turned = sitk.DICOMOrient(first, ORIENTATION)
    arrays = [sitk.GetArrayFromImage(turned), *(_turned(_read(path), first) for path in images[1:])]
    geometry = {
        "origin": turned.GetOrigin(),
        "direction": turned.GetDirection(),
        "orientation": _orientation(first.GetDirection()),
    }
    return Raw(
        np.stack(arrays) if len(arrays) > 1 else arrays[0][None],
        None if label is None else _turned(read_label(label), first),
        turned.GetSpacing()[::-1],
        geometry,
    )


def read_mask(path: Path, turn: bool) -> Raw:
    """Read a label in place of an image, turned to LPS or as it lies in the file; it has a geometry either way."""
    label = read_label(path)
    label = sitk.DICOMOrient(label, ORIENTATION) if turn else label
    place = {"origin": label.GetOrigin(), "direction": label.GetDirection()}
    return Raw(sitk.GetArrayFromImage(label), None, label.GetSpacing()[::-1], place)


def _turned(image: sitk.Image, like: sitk.Image) -> np.ndarray:
    """Values of an image that is turned to LPS as if it had the direction of another."""
    image.SetDirection(like.GetDirection())
    return sitk.GetArrayFromImage(sitk.DICOMOrient(image, ORIENTATION))


def _orientation(direction: Sequence[float]) -> str:
    """Where axes point to, such as ``RAS``: SimpleITK's ``DICOMOrient`` leads back to it."""
    return str(sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(direction))


def _read(path: Path) -> sitk.Image:
    """Read a whole volume."""
    read_header(path)
    try:
        image = sitk.ReadImage(str(path))
        check_whole(path, sitk.GetArrayViewFromImage(image))
        return image
    except RuntimeError as error:
        check_whole(path)
        raise UserError(f"cannot read {path} (truncated or damaged?): {_reason(error)}") from error


def _reason(error: RuntimeError) -> str:
    """The last line of an ITK exception, which says what happened, or what to do about it."""
    line = re.sub(r"^ITK ERROR: (\w+ ?\(0x\w+\): *)?", "", last_line(error))
    if "orthonormal" not in line:
        return line
    return (
        "the axes of its affine are not at right angles (sheared), so that its voxels are no grid of slices. "
        "Resample it, or write it again with an affine at right angles; image and label alike"
    )


def _short(numbers: tuple[float, ...]) -> str:
    """Numbers with few digits, for a message."""
    return f"({', '.join(f'{number:.6g}' for number in numbers)})"
