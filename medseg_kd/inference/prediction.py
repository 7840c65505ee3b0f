"""The labels of an input, laid on its own voxels."""

from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk  # noqa: N813

from medseg_kd.errors import UserError
from medseg_kd.inference.source import Source
from medseg_kd.mask_files import image_of


@dataclass(frozen=True)
class Prediction:
    """Labels of one input, uint8, 0 is background.

    Attributes:
        labels: On the input's own grid: (S, H, W) of a volume, its axes those of ``SimpleITK.GetArrayFromImage``;
            (S, H, W) of an array or h5 file, slices first; (H, W) of a slice.
        image: The volume with its place: of a volume file, that of the input; of a prepared case, that of the file
            that it was made from; None for a slice.
    """

    labels: np.ndarray
    image: sitk.Image | None = None


def lay_back(labels: np.ndarray, source: Source) -> Prediction:
    """Turn the labels of an input back to where it lies.

    Args:
        labels: (S, H, W) uint8 of the slices of ``source.raw``; of a single slice S is 1.
        source: The input.

    Raises:
        UserError: They do not lie where the input does.
    """
    if source.ndim == 2:
        return Prediction(labels[0])
    told = {"case_name": str(source.where), "spacing": source.raw.spacing, "geometry": source.raw.geometry}
    image = image_of({"pred_sem_seg": {"data": labels}, **told})
    header = source.header
    if header is None:
        return Prediction(labels, image)
    place = replace(
        header,
        size=image.GetSize(),
        spacing=image.GetSpacing(),
        origin=image.GetOrigin(),
        direction=image.GetDirection(),
    )
    if found := header.differences(place):
        raise UserError("the labels cannot be laid on the input again:\n  " + "\n  ".join(found))
    image.SetSpacing(header.spacing)
    image.SetOrigin(header.origin)
    image.SetDirection(header.direction)
    return Prediction(sitk.GetArrayFromImage(image), image)
