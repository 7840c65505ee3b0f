"""Reading one NIfTI pair: geometry, checks, reorientation to LPS, window."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from medseg_kd.datasets.conversion.label_maps import LabelMap, value_counts
from medseg_kd.datasets.conversion.pairs import Pair
from medseg_kd.errors import UserError

ORIENTATION = "LPS"


@dataclass(frozen=True)
class Volume:
    """One case in LPS orientation.

    Rows run from front to back, columns from the patient's right to the left, slices from feet to head.

    Args:
        image: (S, H, W) float32 in [0, 1].
        label: (S, H, W) uint8 classes.
        spacing: mm, (z, y, x), the order of the array's axes.
        origin: mm, (x, y, z), of the first voxel in LPS, as SimpleITK gives it.
        direction: 9 direction cosines, row by row, as SimpleITK gives them.
        orientation: Orientation of the file, such as ``RAS``: SimpleITK's ``DICOMOrient`` leads back to it.
    """

    image: np.ndarray
    label: np.ndarray
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]
    orientation: str


def geometry_problems(pair: Pair) -> list[str]:
    """Says in what the headers of image and label differ, or why they cannot be used; empty if all is well."""
    try:
        image, label = _header(pair.image), _header(pair.label)
    except UserError as error:
        return [str(error)]
    problems = []
    if image.GetSize() != label.GetSize():
        problems.append(f"size {image.GetSize()} and {label.GetSize()} (x, y, z)")
    if not np.allclose(image.GetSpacing(), label.GetSpacing(), rtol=1e-3):
        problems.append(f"spacing {_short(image.GetSpacing())} and {_short(label.GetSpacing())} mm")
    if not np.allclose(image.GetOrigin(), label.GetOrigin(), rtol=0, atol=0.02 * min(image.GetSpacing())):
        problems.append(f"origin {_short(image.GetOrigin())} and {_short(label.GetOrigin())} mm")
    if not np.allclose(image.GetDirection(), label.GetDirection(), rtol=0, atol=1e-3):
        problems.append(f"direction {_short(image.GetDirection())} and {_short(label.GetDirection())}")
    return [f"{pair.image.name} and {pair.label.name} differ in {problem}" for problem in problems]


def read_label(path: Path) -> sitk.Image:
    """Reads a label of any pixel type whose values are whole numbers, as int32."""
    image = _read(path)
    values = sitk.GetArrayViewFromImage(image)
    if values.dtype.kind == "f" and not np.array_equal(values, np.rint(values)):
        raise UserError(f"{path} holds values that are not whole numbers: it is not a label, or was interpolated.")
    if values.min() < 0 or values.max() > 65535:
        raise UserError(f"{path} holds values from {values.min()} to {values.max()}: expected labels in 0..65535.")
    return sitk.Cast(image, sitk.sitkInt32)


def label_counts(path: Path) -> dict[int, int]:
    """Voxels of each value of a label file."""
    label = read_label(path)  # a view does not keep its image alive
    return value_counts(sitk.GetArrayViewFromImage(label))


def read_volume(pair: Pair, window: tuple[float, float], label_map: LabelMap) -> Volume:
    """Reads a pair, turns it to LPS, clips the image to the window and scales it to [0, 1].

    Raises:
        UserError: Unreadable file, image values that all lie outside the window, refused labels.
    """
    source = _read(pair.image)
    image = sitk.DICOMOrient(source, ORIENTATION)
    label = sitk.DICOMOrient(read_label(pair.label), ORIENTATION)
    values = sitk.GetArrayFromImage(image).astype(np.float32)
    low, high = window
    lowest, highest = float(values.min()), float(values.max())
    if highest <= low or lowest >= high:
        raise UserError(
            f"{pair.image}: all values ({lowest:g} to {highest:g}) lie outside the window {low:g} {high:g}. Expected "
            "Hounsfield units; give the window of this data with --window LO HI."
        )
    np.clip(values, low, high, out=values)
    values -= low
    values /= high - low
    return Volume(
        image=values,
        label=label_map.apply(sitk.GetArrayViewFromImage(label)),
        spacing=image.GetSpacing()[::-1],
        origin=image.GetOrigin(),
        direction=image.GetDirection(),
        orientation=sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(source.GetDirection()),
    )


def _header(path: Path) -> sitk.ImageFileReader:
    """Reads the header of a file and refuses what is not one scalar volume."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise UserError(f"cannot read {path}: {_reason(error)}") from error
    if reader.GetDimension() != 3 or reader.GetNumberOfComponents() != 1:
        raise UserError(
            f"{path} has {reader.GetDimension()} dimensions and {reader.GetNumberOfComponents()} components: expected "
            "one volume (3 dimensions, 1 component). Split series and channels into one file each."
        )
    return reader


def _read(path: Path) -> sitk.Image:
    """Reads a whole volume."""
    try:
        return sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise UserError(f"cannot read {path} (truncated or damaged?): {_reason(error)}") from error


def _reason(error: RuntimeError) -> str:
    """The last line of an ITK exception, which says what happened."""
    return str(error).strip().splitlines()[-1].strip()


def _short(numbers: tuple[float, ...]) -> str:
    """Numbers with few digits, for a message."""
    return "(" + ", ".join(f"{number:.6g}" for number in numbers) + ")"
