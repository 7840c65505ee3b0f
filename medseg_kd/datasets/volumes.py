"""Reading volumes with SimpleITK: headers compared, content checked, axes turned to LPS."""

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from medseg_kd.datasets.headers import checked_bytes
from medseg_kd.datasets.integrity import check_header, check_whole, packed_sum
from medseg_kd.datasets.pixels import Raw
from medseg_kd.errors import UserError, last_line

VOLUMES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr")
ORIENTATION = "LPS"
"""Rows run from front to back, columns from the patient's right to the left, slices from feet to head."""
ORIENTATIONS = {
    "".join(letters) for axes in itertools.permutations(("LR", "PA", "SI")) for letters in itertools.product(*axes)
}
_PAIRS = {letter: pair for pair in ("LR", "AP", "IS") for letter in pair}
MAX_LABEL = 65535
_KINDS = (*(f"{sign}Int{bits}" for sign in ("U", "") for bits in (8, 16, 32, 64)), "Float32", "Float64")
_SCALARS = {getattr(sitk, f"sitk{kind}"): np.dtype(kind.lower()) for kind in _KINDS}
# By its content alone a file may be read as of any kind, such as one of a medical workstation.
_READERS = {".nrrd": "NrrdImageIO", ".nhdr": "NrrdImageIO", ".mha": "MetaImageIO", ".mhd": "MetaImageIO"}
_SHEAR = 1e-3
"""Cosine of the angle between two axes that rounding may leave."""
_SHEARED = (
    "the axes of its affine are not at right angles (sheared), so that its voxels are no grid of slices. "
    "Resample it, or write it again with an affine at right angles; image and label alike"
)

sitk.ProcessObject.SetGlobalWarningDisplay(False)  # what is wrong is told in our words


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
        return next(size for size, axis in zip(self.size, self.orientation, strict=True) if axis in "SI")

    def turned(self, orientation: str) -> "Header":
        """The header of the same voxels once their axes point to an orientation."""
        order, backwards = turns(self.orientation, orientation)
        axes = [2 - axis for axis in reversed(order)]
        signs = np.array([-1 if 2 - place in backwards else 1 for place in range(3)])
        columns = np.reshape(self.direction, (3, 3))[:, axes]
        last = (np.array(self.size)[axes] - 1) * np.array(self.spacing)[axes]
        return replace(
            self,
            size=tuple(self.size[axis] for axis in axes),
            spacing=tuple(self.spacing[axis] for axis in axes),
            origin=tuple((self.origin + columns @ (last * (signs < 0))).tolist()),
            direction=tuple((columns * signs).ravel().tolist()),
        )

    @property
    def orientation(self) -> str:
        """Where its axes point to."""
        return orientation_of(self.direction)

    @property
    def plane(self) -> tuple[tuple[float, float], tuple[int, int]]:
        """mm of a pixel of its slices, (row, column), and their (H, W), once the volume is turned to LPS."""
        _, row, column = turns(self.orientation, ORIENTATION)[0]
        spacing, size = self.spacing[::-1], self.size[::-1]
        return (spacing[row], spacing[column]), (size[row], size[column])

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


def check_grids(cases: Iterable[Sequence[Path]], title: str, channels: int = 1) -> list[Header]:
    """Compare the headers of the files of each case: its channels, and its label if it has one.

    Args:
        cases: The files of each.
        title: Of what is wrong.
        channels: Of the first file of a case, along a fourth axis where there are several.

    Returns:
        Header of the first file of each case.

    Raises:
        UserError: What is wrong with all cases, below the title.
    """
    first, problems = [], []
    for files in cases:
        headers = []
        for number, file in enumerate(files):
            try:
                headers.append(read_header(file, 1 if number else channels))
            except UserError as error:
                problems.append(str(error))
        first += headers[:1]
        problems += [line for header in headers[1:] for line in headers[0].differences(header)]
    if problems:
        raise UserError("\n  ".join([f"{title}:", *problems]))
    return first


def read_header(path: Path, channels: int = 1) -> Header:
    """Read the header of a file: of one scalar volume that has a place, or of several, along a fourth axis."""
    return _header(_opened(path), path, channels)


def _opened(path: Path) -> sitk.ImageFileReader:
    """The reader of a file, which has read its header."""
    if not path.is_file():
        raise UserError(f"cannot read {path}: there is no such file")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(_READERS.get(path.suffix.lower(), "NiftiImageIO"))
    check_header(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        check_whole(path)
        raise UserError(f"cannot read {path}: {reason(error)}") from error
    return reader


def _header(reader: sitk.ImageFileReader, path: Path, channels: int) -> Header:
    """What a reader has read, once it makes sense."""
    if (
        reader.GetDimension() != (4 if channels > 1 else 3)
        or reader.GetSize()[3:] != ((channels,) if channels > 1 else ())
        or reader.GetNumberOfComponents() != 1
        or reader.GetPixelID() not in _SCALARS
    ):
        raise UserError(
            f"{path} has {reader.GetDimension()} dimensions and {reader.GetNumberOfComponents()} components of "
            f"{sitk.GetPixelIDValueAsString(reader.GetPixelID())}: expected one volume of whole or real numbers (3 "
            "dimensions, 1 component). Split series and channels into one file each."
            if channels == 1
            else f"{path} has the size {reader.GetSize()}: expected {channels} channels along a fourth axis, of whole "
            "or real numbers. Correct the channels in dataset.json, or copy the file again"
        )
    checked_bytes(reader.GetSize(), _SCALARS[reader.GetPixelID()], path)
    direction = np.reshape(reader.GetDirection(), (reader.GetDimension(),) * 2)[:3, :3].ravel().tolist()
    place = reader.GetSize()[:3], reader.GetSpacing()[:3], reader.GetOrigin()[:3]
    header = Header(path, *place, tuple(direction))
    if not np.isfinite([*header.spacing, *header.origin, *header.direction]).all() or min(header.spacing) <= 0:
        raise UserError(
            f"{path} has the spacing {_short(header.spacing)}, the origin {_short(header.origin)} and the direction "
            f"{_short(header.direction)}: expected numbers. Correct its header"
        )
    axes = np.reshape(header.direction, (3, 3))
    if not np.allclose(axes.T @ axes, np.eye(3), atol=_SHEAR):
        raise UserError(f"cannot read {path}: {_SHEARED}")
    return header


def read_label(path: Path) -> sitk.Image:
    """Read a label of any pixel type whose values are whole numbers, as uint8, or uint16 where they are larger."""
    image = read_image(path)
    if image.GetPixelID() == sitk.sitkUInt8:
        return image
    values = sitk.GetArrayViewFromImage(image)
    if values.dtype.kind == "f" and not np.array_equal(values, np.rint(values)):
        raise UserError(f"{path} holds values that are not whole numbers: it is not a label, or was interpolated.")
    if values.min() < 0 or values.max() > MAX_LABEL:
        raise UserError(f"{path} holds values from {values.min()} to {values.max()}: expected labels in 0..65535.")
    return sitk.Cast(image, sitk.sitkUInt8 if values.max() < 256 else sitk.sitkUInt16)


def read_volume(images: Sequence[Path], label: Path | None, orientation: str = ORIENTATION) -> Raw:
    """Read a case, a file a channel, and turn it to an orientation, see :func:`to_raw`."""
    return to_raw(map(read_image, images), None if label is None else read_label(label), orientation)


def to_raw(images: Iterable[sitk.Image], label: sitk.Image | None = None, orientation: str | None = ORIENTATION) -> Raw:
    """Turn a case, an image a channel, to an orientation; None leaves it as it lies.

    All are turned as the first one: their headers agree (:func:`check_grids`), but for rounding, which must not decide
    where an axis at 45 degrees points to.

    Returns:
        Image (C, S, H, W) in the type of the images, label (S, H, W).
    """
    first, *others = images
    orientation = orientation or orientation_of(first.GetDirection())
    moved = sitk.DICOMOrient(first, orientation)

    def values(image: sitk.Image) -> np.ndarray:
        image.SetDirection(first.GetDirection())
        return sitk.GetArrayFromImage(sitk.DICOMOrient(image, orientation))

    arrays = [sitk.GetArrayFromImage(moved), *map(values, others)]
    geometry = {
        "origin": moved.GetOrigin(),
        "direction": moved.GetDirection(),
        "orientation": orientation_of(first.GetDirection()),
    }
    return Raw(
        np.stack(arrays) if others else arrays[0][None],
        None if label is None else values(label),
        moved.GetSpacing()[::-1],
        geometry,
    )


def read_mask(path: Path, turn: bool) -> Raw:
    """Read a label in place of an image, turned to LPS or as it lies in the file; it has a geometry either way."""
    label = read_label(path)
    label = sitk.DICOMOrient(label, ORIENTATION) if turn else label
    place = {"origin": label.GetOrigin(), "direction": label.GetDirection()}
    return Raw(sitk.GetArrayFromImage(label), None, label.GetSpacing()[::-1], place)


def orientation_of(direction: Sequence[float]) -> str:
    """Where axes point to, such as ``RAS``: SimpleITK's ``DICOMOrient`` leads back to it."""
    return str(sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(direction))


def turns(here: str, there: str) -> tuple[list[int], list[int]]:
    """How to turn an array (z, y, x) whose axes x, y, z point to ``here``, such as LPS, to where they point ``there``.

    Returns:
        Its axes in their new order, and those of the result that then run backwards.
    """
    own, wanted = here[::-1], there[::-1]
    pairs = [_PAIRS[letter] for letter in own]
    order = [pairs.index(_PAIRS[letter]) for letter in wanted]
    return order, [place for place, axis in enumerate(order) if own[axis] != wanted[place]]


def turned(array: np.ndarray, here: str, there: str) -> np.ndarray:
    """A view of an array (..., z, y, x), see :func:`turns`."""
    order, backwards = turns(here, there)
    others = array.ndim - 3
    moved = array.transpose(*range(others), *(others + axis for axis in order))
    return np.flip(moved, tuple(others + axis for axis in backwards))


def read_channels(path: Path, channels: int) -> list[sitk.Image]:
    """Read a volume a channel, of a file that holds them along a fourth axis where there are several."""
    image = read_image(path, channels)
    return [image] if channels == 1 else [image[..., number] for number in range(channels)]


def read_image(path: Path, channels: int = 1) -> sitk.Image:
    """Read a whole volume, or several, along a fourth axis."""
    reader = _opened(path)
    _header(reader, path, channels)
    size, proved = checked_bytes(reader.GetSize(), _SCALARS[reader.GetPixelID()], path), packed_sum(path)
    if proved is None:
        check_whole(path, size)
    try:
        image = reader.Execute()
        if proved is not None and not proved(sitk.GetArrayViewFromImage(image)):
            check_whole(path, size)
        return image
    except RuntimeError as error:
        check_whole(path, size)
        raise UserError(f"cannot read {path} (truncated or damaged?): {reason(error)}") from error


def reason(error: RuntimeError) -> str:
    """The last line of an ITK exception, which says what happened, or what to do about it."""
    line = re.sub(r"^ITK ERROR: (\w+ ?\(0x\w+\): *)?", "", last_line(error))
    return line if "orthonormal" not in line else _SHEARED


def _short(numbers: tuple[float, ...]) -> str:
    """Numbers with few digits, for a message."""
    return f"({', '.join(f'{number:.6g}' for number in numbers)})"
