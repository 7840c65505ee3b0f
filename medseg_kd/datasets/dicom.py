"""Reading the series of a folder of DICOM files as volumes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from medseg_kd.datasets.headers import checked_bytes
from medseg_kd.datasets.volumes import reason
from medseg_kd.errors import UserError, some

_ENDINGS = (".dcm", ".ima")
"""Of names; many have none."""
_PREAMBLE, _MAGIC = 128, b"DICM"
_CLASS = b"\x02\x00\x02\x00UI"
"""Tag of the class of a file, before the length of the class and itself."""
_NO_IMAGES = ("1.2.840.10008.1.3.", *(f"1.2.840.10008.5.1.4.1.1.{each}." for each in (9, 11, 66, 88, 104, 481)))
"""Classes of indices, waveforms, presentations, segmentations, reports, documents and plans of radiotherapy."""
_SERIES, _DESCRIPTION, _POSITION, _AXES = "0020|000e", "0008|103e", "0020|0032", "0020|0037"
_FRAMES, _SAMPLES = "0028|0008", "0028|0002"
_UNEVEN = 0.1
"""How far from its place a slice may lie, as a share of their distance: more than positions are rounded."""


@dataclass(frozen=True)
class _Slice:
    """A file of a series: where its first voxel lies, in mm, and the directions of its rows and columns, (2, 3)."""

    path: Path
    position: np.ndarray
    axes: np.ndarray


def holds_series(folder: Path) -> bool:
    """Whether there are DICOM images among the files of a folder, or any that cannot be opened."""
    try:
        return any(map(_is_image, folder.iterdir()))
    except OSError:
        return True


def read_series(folder: Path, uid: str | None = None) -> tuple[sitk.Image, list[Path]]:
    """Read the series of a folder; values are rescaled by the slope and intercept of each slice.

    Args:
        folder: Its own files are looked at; those of other things than images, and series without a place, such as
            reports on a dose, are left out.
        uid: The series, where there are several.

    Returns:
        The volume, float32, and the file of each of its slices.

    Raises:
        UserError: There is not one such series; slices are missing, doubled, of several sizes or at uneven distances;
            the gantry was tilted; a file cannot be read.
    """
    slices = [_slice(path, told) for path, told in _files_of(folder, uid).items()]
    normal = np.cross(*slices[0].axes)
    slices.sort(key=lambda each: float(each.position @ normal))
    step = _step(slices, normal, folder)
    planes = [_read_pixels(each.path) for each in slices]
    for each, plane in zip(slices, planes, strict=True):
        if (plane.GetSize(), plane.GetSpacing()[:2]) != (planes[0].GetSize(), planes[0].GetSpacing()[:2]):
            raise UserError(f"{folder}: slices differ in size or spacing: {slices[0].path.name} and {each.path.name}")
    image = sitk.GetImageFromArray(np.concatenate([sitk.GetArrayViewFromImage(plane) for plane in planes]))
    image.SetSpacing((*planes[0].GetSpacing()[:2], step or planes[0].GetSpacing()[2]))
    image.SetOrigin(slices[0].position.tolist())
    image.SetDirection(np.stack([*slices[0].axes, normal], axis=1).flatten().tolist())
    return image, [each.path for each in slices]


def _files_of(folder: Path, uid: str | None) -> Mapping[Path, Mapping[str, str]]:
    """The files of the series of a folder, and what they tell."""
    every: dict[str, dict[Path, Mapping[str, str]]] = {}
    for path in sorted(folder.iterdir()):
        if _is_image(path):
            told = _read_header(path)
            every.setdefault(told.get(_SERIES, "none"), {})[path] = told
    placed = {name: files for name, files in every.items() if any(told.get(_POSITION) for told in files.values())}
    series = placed or every
    first = {name: next(iter(files.values())).get(_DESCRIPTION, "") for name, files in series.items()}
    listed = "".join(f"\n  {name}: {first[name]}, {len(files)} files" for name, files in [*series.items()][:5])
    if uid is None and len(series) > 1:
        raise UserError(f"{folder} holds {len(series)} series: choose one by --series UID{listed}")
    if not series or uid not in (None, *series):
        raise UserError(f"{folder} holds no DICOM series{f' {uid}' if uid else ''}{listed and '. It holds'}{listed}")
    return series[uid or next(iter(series))]


def _is_image(path: Path) -> bool:
    """Whether a file is, or is named as, one of DICOM, and not of a class without an image."""
    if path.name.startswith(".") or not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(1024)
    _, told, rest = start.partition(_CLASS)
    kind = rest[2 : 2 + int.from_bytes(rest[:2], "little")].decode("ascii", "replace") if told else ""
    named = path.suffix.lower() in _ENDINGS or start[_PREAMBLE:].startswith(_MAGIC)
    return named and not kind.startswith(_NO_IMAGES)


def _read_header(path: Path) -> Mapping[str, str]:
    """What a file tells, by tag."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("GDCMImageIO")
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from error
    checked_bytes(reader.GetSize(), np.dtype(np.float32), path)
    return {key: reader.GetMetaData(key).strip() for key in reader.GetMetaDataKeys()}


def _slice(path: Path, told: Mapping[str, str]) -> _Slice:
    """A file of a series, once it is one grey slice that lies somewhere."""
    frames, samples = told.get(_FRAMES, "1"), told.get(_SAMPLES, "1")
    if (frames, samples) != ("1", "1"):
        raise UserError(
            f"{path} has {frames} frames of {samples} components: expected one grey slice. Convert it to a series of "
            "single slices, or to NIfTI (dcm2niix)"
        )
    try:
        position, axes = (np.array(told[key].split("\\"), float) for key in (_POSITION, _AXES))
        axes = axes.reshape(2, 3)
        if (
            position.shape != (3,)
            or not np.isfinite(position).all()
            or not np.allclose(axes @ axes.T, np.eye(2), atol=1e-3)
        ):
            raise ValueError("neither a place nor directions")
        return _Slice(path, position, axes)
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{path} does not tell where its slice lies (Image Position and Orientation): it is none of a volume. Take "
            "it out of the folder"
        ) from error


def _step(slices: Sequence[_Slice], normal: np.ndarray, folder: Path) -> float:
    """Distance in mm of slices in their order, once they are parallel, even and not sheared; 0 of a single one."""
    first = slices[0]
    if turned := [each.path.name for each in slices if not np.allclose(each.axes, first.axes, atol=1e-3)]:
        raise UserError(f"{folder}: slices are not parallel: {first.path.name} and {some(turned, 3)}")
    if len(slices) == 1:
        return 0.0
    offsets = np.array([each.position - first.position for each in slices])
    places = offsets @ normal
    gaps = np.diff(places)
    step = float(np.median(gaps))
    widest = int(np.abs(gaps - step).argmax())
    here, there = (slices[at].path.name for at in (widest, widest + 1))
    if gaps.min() <= _UNEVEN * step:
        at = int(gaps.argmin())
        raise UserError(
            f"{folder}: {slices[at].path.name} and {slices[at + 1].path.name} lie at one place: the series holds "
            "several volumes (phases, echoes) or slices twice. Take the others out of the folder"
        )
    even = np.linspace(0, places[-1], len(places))
    if np.abs(places - even).max() > _UNEVEN * step:
        raise UserError(
            f"{folder}: slices at uneven distances: {step:.6g} mm apart, but {gaps[widest]:.6g} mm from {here} to "
            f"{there}. Slices are missing, or the volume has to be resampled"
        )
    lateral = np.linalg.norm(offsets[-1] - places[-1] * normal)
    if lateral > _UNEVEN * step:
        angle = np.degrees(np.arctan2(lateral, places[-1]))
        raise UserError(
            f"{folder}: the slices are shifted by {lateral:.6g} mm from the first to the last (gantry tilt of "
            f"{angle:.3g} degrees): its voxels are no grid at right angles. Resample it (dcm2niix does)"
        )
    return float(places[-1]) / (len(slices) - 1)


def _read_pixels(path: Path) -> sitk.Image:
    """One slice (x, y, 1), float32."""
    try:
        return sitk.ReadImage(str(path), sitk.sitkFloat32, imageIO="GDCMImageIO")
    except RuntimeError as error:
        raise UserError(f"cannot read {path} (truncated or damaged?): {reason(error)}") from error
