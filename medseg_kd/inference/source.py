"""What is to be predicted: a file, a series or an array, turned as the slices that a network was trained on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from medseg_kd.datasets.dicom import read_series
from medseg_kd.datasets.integrity import opened
from medseg_kd.datasets.pixels import Raw
from medseg_kd.datasets.spec import DataSpec
from medseg_kd.datasets.volumes import VOLUMES, Header, check_grids, read_image, to_raw
from medseg_kd.errors import UserError, first_line

PREPARED = (".npy.h5", ".h5", ".npz")
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Source:
    """An input as it was read.

    Attributes:
        raw: Its values before any intensity rule, in the orientation of the training slices.
        ndim: 2 for a slice, 3 for a volume.
        where: The file, for messages.
        prepared: The values are those that the intensity rules gave.
        header: Where the voxels of the input lie, of a volume: its labels are laid on them.
        slices: The files of a DICOM series, a slice each, in the order of its voxels.
    """

    raw: Raw
    ndim: int
    where: str | Path
    prepared: bool = False
    header: Header | None = None
    slices: Sequence[Path] = ()


def read_source(
    source: str | Path | Sequence[str | Path] | np.ndarray,
    spec: DataSpec,
    axes: str | None = None,
    spacing: tuple[float, ...] | None = None,
    series: str | None = None,
    as_stored: bool = False,
) -> Source:
    """Read an input, see :class:`~medseg_kd.inference.Predictor`.

    Args:
        source: File, the channels of a volume, folder of a DICOM series, or array.
        spec: What the images of the network are.
        axes: Of h5 volumes.
        spacing: (z, y, x) in mm, of an array.
        series: UID of a DICOM series, where its folder holds several.
        as_stored: Take volumes as they lie in their files, whatever the spec says.

    Raises:
        UserError: It cannot be read, or is of other images.
    """
    if isinstance(source, np.ndarray):
        ndim = source.ndim - (len(spec.channels) > 1 or source.ndim == 4)
        if ndim not in (2, 3):
            raise UserError(f"an array of shape {source.shape}: expected (S, H, W) or (H, W), channels first")
        return Source(Raw(source, None, spacing), ndim, "the array")
    paths = [Path(each) for each in ([source] if isinstance(source, (str, Path)) else source)]
    if paths[0].is_dir() and len(paths) == 1:
        image, slices = read_series(paths[0], series)
        place = image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()
        return _volume(paths[0], [image], spec, Header(paths[0], *place), slices, as_stored)
    if missing := [str(path) for path in paths if not path.is_file()]:
        raise UserError(f"no such file: {', '.join(missing)}")
    name = paths[0].name.lower()
    if name.endswith(VOLUMES):
        (header,) = check_grids([paths], "the volume cannot be used")
        return _volume(paths[0], map(read_image, paths), spec, header, as_stored=as_stored)
    if len(paths) > 1:
        raise UserError(f"{paths[0]} and {paths[1].name}: only the channels of a volume are files of their own")
    if name.endswith(PREPARED):
        return _read_prepared(paths[0], spec, axes)
    if name.endswith(IMAGES):
        from medseg_kd.datasets.image_files import read_pixels

        pixels = opened(paths[0], lambda path: read_pixels(path, len(spec.channels)))
        return Source(Raw(pixels, None), 2, paths[0])
    known = ", ".join((*VOLUMES, *PREPARED[1:], *IMAGES))
    raise UserError(f"{paths[0]}: expected one of {known}, or the folder of a DICOM series")


def _volume(
    path: Path,
    images: Iterable[sitk.Image],
    spec: DataSpec,
    header: Header,
    slices: Sequence[Path] = (),
    as_stored: bool = False,
) -> Source:
    """A volume, an image a channel, its slices turned as they lie in training."""
    if spec.orientation is None and not as_stored:
        raise UserError(
            f"{path}: the checkpoint does not tell how the slices lay that it was trained on. Name it: "
            "--orientation LPS where rows run from front to back and columns from the patient's right to the left"
        )
    return Source(to_raw(images, None, None if as_stored else spec.orientation), 3, path, header=header, slices=slices)


def _read_prepared(path: Path, spec: DataSpec, axes: str | None) -> Source:
    """Read a slice or case of TransUNet's layout, once its folder does not tell that it is of other images."""
    try:
        from medseg_kd.datasets.formats.transunet import TransUNet
    except ImportError as error:
        raise UserError(
            f"{path}: prepared cases are read where all of medseg_kd is installed ({first_line(error)}). Give it the "
            "volume that the case was prepared from"
        ) from error
    found = TransUNet(path.parent.parent, axes)
    if differences := spec.differences(replace(spec, **found.told())):
        raise UserError(f"{path}: not the images that the model was trained on:\n  " + "\n  ".join(differences))
    return Source(opened(path, found.load_image), 2 if path.suffix == ".npz" else 3, path, prepared=True)
