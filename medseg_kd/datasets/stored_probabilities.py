"""Probabilities of cases in files: what nnU-Net's ``--save_probabilities`` and our ``predict.py`` write."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medseg_kd.datasets.integrity import opened
from medseg_kd.datasets.listings import read_json
from medseg_kd.datasets.npz import read_npz
from medseg_kd.datasets.pickled import numbers, read_pickle
from medseg_kd.datasets.spec import DataSpec, parts_of_json, unnamed
from medseg_kd.datasets.volumes import ORIENTATIONS, Header, read_header, turned
from medseg_kd.errors import UserError
from medseg_kd.nnunet_files import labels_of

_ROUNDING = 1e-2
"""By which the probabilities of a pixel may miss 1; those in float16 do by far less."""


@dataclass(frozen=True)
class StoredCase:
    """What a file holds of a case, or of a slice.

    Args:
        probabilities: (K, S, H, W) of the K classes, float16 or more; S is 1 where the file holds a slice. Its axes
            lie as those of the training slices.
        header: Where its voxels lie; None where it is of a slice.
    """

    path: Path
    probabilities: np.ndarray
    header: Header | None


def read_stored(path: Path, spec: DataSpec) -> StoredCase:
    """Read the probabilities of a case, or of a slice.

    ``probabilities`` of an npz file is (K, z, y, x) on the grid of the image. Where that lies is told by the pickle
    beside it (nnU-Net's), else by the mask (ours, ``<case>.nii.gz``).

    Args:
        path: The npz file.
        spec: What the training images are.

    Raises:
        UserError: It holds other classes, what is no probability, or the grid is not told.
    """
    arrays = opened(path, lambda file: read_npz(file, ["probabilities"], texts=["names"]))
    values, names = arrays["probabilities"], arrays.get("names")
    if values.dtype.kind != "f" or values.ndim not in (3, 4):
        raise UserError(
            f"{path}: probabilities is {values.dtype} {values.shape}, expected real numbers (classes, z, y, x), or "
            "(classes, y, x) of a slice. Predict the case again"
        )
    _check_names(path, len(values), None if names is None else tuple(names.tolist()), spec)
    planes = values[:, None] if values.ndim == 3 else values
    for index in range(planes.shape[1]):
        _check_values(f"{path}, slice {index}", planes[:, index].astype(np.float32))
    header = None if values.ndim == 3 else _header_of(path, planes.shape[1:])
    if header is None:
        return StoredCase(path, planes, None)
    if spec.orientation not in ORIENTATIONS:
        raise UserError(
            f"{path} is a volume, but the training data do not tell how their slices lie in it. Say it, as in "
            "train_dataloader.dataset.spec.orientation=LPS, or predict the training slices themselves"
        )
    laid = turned(planes, header.orientation, spec.orientation)
    return StoredCase(path, laid, header.turned(spec.orientation))


def check_folder(folder: Path, spec: DataSpec) -> None:
    """Compare the classes of the ``dataset.json`` that nnU-Net leaves beside predictions, or above a validation."""
    for place in (folder, folder.parent.parent) if folder.name == "validation" else (folder,):
        if (path := place / "dataset.json").is_file():
            parts = labels_of(read_json(path, dict), path)
            if "regions" in parts:
                raise UserError(
                    f"{path} has regions: their probabilities overlap, and a stored teacher teaches classes that do "
                    "not. Train nnU-Net on the classes, or distil from a network that learned the regions"
                )
            classes = parts_of_json(parts, str(path))["classes"]
            _check_names(path, len(classes), classes, spec)
            return


def _check_names(path: Path, count: int, names: tuple[str, ...] | None, spec: DataSpec) -> None:
    """Refuse other classes than those of the training data."""
    own = spec.classes
    if count != len(own) or (names not in (None, unnamed(count)) and own not in (names, unnamed(count))):
        raise UserError(
            f"{path} is of {count} classes" + (f" ({', '.join(map(str, names))})" if names else "") + f", the training "
            f"data have {len(own)} ({', '.join(own)}). Predict with a model of these classes; where the names alone "
            "differ, name them alike in dataset.spec or there"
        )


def _check_values(where: str, planes: np.ndarray) -> None:
    """Refuse (K, H, W) that is no distribution over the K classes."""
    lowest, total = float(planes.min()), planes.sum(0)
    if not np.isfinite(total).all():
        raise UserError(f"{where}: probabilities are NaN or infinite. Predict the case again")
    if lowest < -_ROUNDING or abs(total - 1).max() > _ROUNDING:
        raise UserError(
            f"{where}: the probabilities of a pixel add up to {total.min():.3g} to {total.max():.3g} (lowest "
            f"{lowest:.3g}), expected 1: they are logits, or of regions that overlap (sigmoid). Store the softmax over "
            "the classes"
        )


def _header_of(path: Path, shape: tuple[int, ...]) -> Header | None:
    """Where the voxels (z, y, x) lie; None of an image that has no place."""
    pickle, mask = path.with_suffix(".pkl"), path.with_suffix(".nii.gz")
    size = shape[::-1]
    if pickle.is_file():
        told = read_pickle(pickle)
        try:
            header = _told(pickle, size, told)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{pickle} does not tell where the case lies ({error!r}). Predict the case again"
            ) from error
        if header is None and shape[0] > 1:
            raise UserError(
                f"{path}: {pickle.name} tells no geometry of a volume (sitk_stuff, nibabel_stuff): store volumes that "
                "nnU-Net reads by SimpleITK or nibabel"
            )
        return header
    if not mask.is_file():
        raise UserError(
            f"{path} is a volume, but neither {pickle.name} (nnU-Net's) nor {mask.name} (of tools/predict.py) beside "
            "it tells how it lies. Copy it here too"
        )
    header = read_header(mask)
    if header.size != size:
        raise UserError(f"{path} is {shape}, but {mask.name} beside it {header.size[::-1]} (z, y, x): predict again")
    return header


def _told(path: Path, size: tuple[int, ...], properties: Mapping[str, Any]) -> Header | None:
    """The geometry in nnU-Net's properties, by SimpleITK or by nibabel (whose axes point to RAS)."""
    if "sitk_stuff" in properties:
        stuff = properties["sitk_stuff"]
        spacing, origin, direction = (numbers(stuff[key]).ravel() for key in ("spacing", "origin", "direction"))
        if len(spacing) == 2 and size[2] == 1:
            return None
    elif "nibabel_stuff" in properties:
        stuff = properties["nibabel_stuff"]
        affine = numbers(stuff.get("reoriented_affine", stuff["original_affine"])).reshape(4, 4)
        columns = np.diag((-1, -1, 1)) @ affine[:3, :3]
        spacing = np.linalg.norm(columns, axis=0)
        origin, direction = np.diag((-1, -1, 1)) @ affine[:3, 3], (columns / spacing).ravel()
    else:
        return None
    found = np.concatenate((spacing, origin, direction))
    if len(found) != 15 or not np.isfinite(found).all() or spacing.min() <= 0:
        raise ValueError(f"spacing, origin and direction are {found.tolist()}")
    return Header(path, size, *(tuple(each.tolist()) for each in (spacing, origin, direction)))
