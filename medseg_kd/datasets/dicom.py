"""Reading the series of a folder of DICOM files as volumes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813

from medseg_kd.datasets.dicom_files import DicomSlice, has_place, is_image, read_header, slice_of
from medseg_kd.datasets.volumes import reason
from medseg_kd.errors import UserError, some

_UNEVEN = 0.1
"""How far from its place a slice may lie, as a share of their distance: more than positions are rounded."""


def holds_series(folder: Path) -> bool:
    """Whether there are DICOM images among the files of a folder, or any that cannot be opened."""
    try:
        return any(map(is_image, folder.iterdir()))
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
    slices = [slice_of(path, told) for path, told in _files_of(folder, uid).items()]
    normal = np.cross(*slices[0].axes)
    slices.sort(key=lambda each: float(each.position @ normal))
    step = _step(slices, normal, folder)
    for each in slices:
        if (each.size, each.spacing) != (slices[0].size, slices[0].spacing):
            raise UserError(f"{folder}: slices differ in size or spacing: {slices[0].path.name} and {each.path.name}")
    planes = [_read_pixels(each) for each in slices]
    image = sitk.GetImageFromArray(np.concatenate([sitk.GetArrayViewFromImage(plane) for plane in planes]))
    image.SetSpacing((*slices[0].spacing, step or planes[0].GetSpacing()[2]))
    image.SetOrigin(slices[0].position.tolist())
    image.SetDirection(np.stack([*slices[0].axes, normal], axis=1).flatten().tolist())
    return image, [each.path for each in slices]


def _files_of(folder: Path, uid: str | None) -> Mapping[Path, Any]:
    """The files of the series of a folder, and what they tell."""
    every: dict[str, dict[Path, Any]] = {}
    for path in sorted(folder.iterdir()):
        if is_image(path):
            told = read_header(path)
            every.setdefault(str(told.get("SeriesInstanceUID", "none")), {})[path] = told
    placed = {name: files for name, files in every.items() if any(map(has_place, files.values()))}
    series = placed or every
    first = {name: next(iter(files.values())).get("SeriesDescription", "") for name, files in series.items()}
    listed = "".join(f"\n  {name}: {first[name]}, {len(files)} files" for name, files in [*series.items()][:5])
    if uid is None and len(series) > 1:
        raise UserError(f"{folder} holds {len(series)} series: choose one by --series UID{listed}")
    if not series or uid not in (None, *series):
        raise UserError(f"{folder} holds no DICOM series{f' {uid}' if uid else ''}{listed and '. It holds'}{listed}")
    return series[uid or next(iter(series))]


def _step(slices: Sequence[DicomSlice], normal: np.ndarray, folder: Path) -> float:
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


def _read_pixels(one: DicomSlice) -> sitk.Image:
    """One slice (x, y, 1), float32."""
    try:
        plane = sitk.ReadImage(str(one.path), sitk.sitkFloat32, imageIO="GDCMImageIO")
    except RuntimeError as error:
        raise UserError(f"cannot read {one.path} (truncated or damaged?): {reason(error)}") from error
    if plane.GetSize() != (*one.size, 1) or plane.GetNumberOfComponentsPerPixel() != 1:
        raise UserError(f"{one.path} is read as {plane.GetSize()}, but tells {one.size}. Write it anew")
    return plane
