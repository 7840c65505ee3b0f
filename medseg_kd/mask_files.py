"""Label maps as volume files that lie where their case does."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813

from medseg_kd.errors import UserError, WriteError, last_line
from medseg_kd.files import whole_file


def image_of(sample: Mapping[str, Any]) -> sitk.Image:
    """The prediction of a case with its geometry."""
    image = sitk.GetImageFromArray(np.asarray(sample["pred_sem_seg"]["data"], np.uint8))
    spacing, geometry = sample.get("spacing"), sample.get("geometry")
    try:
        if spacing is not None:
            image.SetSpacing(spacing[::-1])
        if geometry is not None:
            image.SetOrigin(geometry["origin"])
            image.SetDirection(geometry["direction"])
            if geometry.get("orientation"):
                image = sitk.DICOMOrient(image, geometry["orientation"])
    except (RuntimeError, TypeError) as error:
        raise UserError(
            f"case {sample['case_name']}: spacing {spacing} and geometry {geometry} cannot be written ({error}). "
            "Expected three spacings, an origin of three numbers and nine direction cosines; prepare the case again"
        ) from error
    return image


def write_image(image: sitk.Image, path: Path) -> None:
    """Write a file, whole or not at all.

    Raises:
        WriteError: It cannot be written.
    """
    try:
        with whole_file(path) as draft:
            sitk.WriteImage(image, str(draft), useCompression=True)
            # ITK is silent where the disk is full for NIfTI.
            if sitk.Hash(sitk.ReadImage(str(draft))) != sitk.Hash(image):
                raise RuntimeError("the file is not what was written")
    except RuntimeError as error:  # ITK's
        raise WriteError(
            f"cannot write {path}: {last_line(error)}. Free some disk space or choose another place"
        ) from error
