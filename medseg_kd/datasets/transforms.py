"""Transforms between the file and the batch."""

from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from scipy.ndimage import zoom

from medseg_kd.datasets.pixels import stack_neighbours
from medseg_kd.datasets.spec import IGNORED
from medseg_kd.errors import UserError
from medseg_kd.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadSlice(BaseTransform):
    """Reads a training slice into the keys that MMCV's and MMSegmentation's transforms work on.

    Adds ``img`` (H, W) float32, (H, W, C) where the network gets several channels, ``gt_seg_map`` (H, W) uint8,
    ``seg_fields``, ``img_shape``, ``ori_shape``, ``labelled``. With ``neighbours=k`` the channels are those of slice
    i - k to i + k; beyond the ends of a case its last slice stands in.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Read the slice ``results['position']`` of ``results['case']``."""
        image, label, shape = load_slice(results, results["format"].spec.neighbours)
        return {
            **{key: results[key] for key in ("case_name", "slice_index")},
            "img": image[0] if len(image) == 1 else np.moveaxis(image, 0, -1),
            "gt_seg_map": label,
            "seg_fields": ["gt_seg_map"],
            "img_shape": image.shape[1:],
            "ori_shape": shape,
            "labelled": results["case"].labelled,
        }


def load_slice(info: dict[str, Any], neighbours: int = 0) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Read a slice that a data set describes, and those beside it.

    Args:
        info: ``case``, ``position``, ``format`` and ``size`` (to which it is resized; None keeps its own).
        neighbours: Slices above and below that become channels.

    Returns:
        Image ((2 * neighbours + 1) * C, H, W) float32, label (H, W) uint8, all of it ``IGNORED`` where the case has
        none, and (H, W) in the file.
    """
    case, position, reader, size = info["case"], info["position"], info["format"], info["size"]
    pixels = reader.read_slice(case, position)
    image, label = pixels.image, pixels.label_or_ignored
    shape = (image.shape[-2], image.shape[-1])
    if neighbours:
        places = np.clip(np.arange(position - neighbours, position + neighbours + 1), 0, case.size - 1)
        stack = [image if place == position else reader.read_slice(case, int(place)).image for place in places]
        if len(sizes := {each.shape[1:] for each in stack}) > 1:
            raise UserError(
                f"case {case.name}: its slices differ in size ({sorted(sizes)}): neighbours={neighbours} needs one"
            )
        image = np.concatenate(stack)
    if size is not None:
        image, label = zoom_planes(image, size, 3), zoom_planes(label, size, 0)
    return image, label, shape


@TRANSFORMS.register_module()
class PackSlice(BaseTransform):
    """Makes of the keys of :class:`LoadSlice` an item of a batch.

    Gives ``inputs``, (C, H, W) float32, ``labels``, (H, W) uint8, and ``meta``: the case's name, the slice's index and
    ``ori_shape``, its (H, W) in the file. All labels of a case that has none are ignored.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pack a slice."""
        image = results["img"] if results["img"].ndim == 3 else results["img"][..., None]
        labels = torch.from_numpy(np.ascontiguousarray(results["gt_seg_map"], np.uint8))
        if not results.get("labelled", True):
            labels.fill_(IGNORED)  # whatever a transform has brought in from outside
        return {
            "inputs": torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, -1, 0), np.float32)),
            "labels": labels,
            "meta": {key: results[key] for key in ("case_name", "slice_index", "ori_shape")},
        }


@TRANSFORMS.register_module()
class LoadCase(BaseTransform):
    """Reads a case and packs it.

    Gives ``inputs``, (S, C, H, W) float32, ``labels``, (S, H, W) uint8 on the case's own grid or None, and ``meta``:
    ``case_name``, ``spacing`` ((z, y, x) in mm or None), ``geometry`` (see :class:`~medseg_kd.datasets.pixels.Raw`) and
    ``ori_shape``, (H, W) of the case's own grid.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Read ``results['case']``."""
        reader = results["format"]
        pixels = reader.read_case(results["case"])
        image = pixels.image if results["size"] is None else zoom_planes(pixels.image, results["size"], 3)
        return {
            "inputs": torch.from_numpy(np.ascontiguousarray(stack_neighbours(image, reader.spec.neighbours))),
            "labels": None if pixels.label is None else torch.from_numpy(np.ascontiguousarray(pixels.label)),
            "meta": {
                "case_name": results["case_name"],
                "spacing": pixels.spacing,
                "geometry": pixels.geometry,
                "ori_shape": tuple(pixels.image.shape[2:]),
            },
        }


def zoom_planes(planes: np.ndarray, size: tuple[int, int], order: int) -> np.ndarray:
    """Resize the last two axes by spline interpolation, plane by plane, as TransUNet's ``test_single_volume`` does.

    Args:
        planes: (..., H, W).
        size: (height, width) to come out.
        order: Of the spline: 3 for images, 0 (nearest) for labels.
    """
    *rest, height, width = planes.shape
    if (height, width) == tuple(size):
        return planes
    factors = size[0] / height, size[1] / width
    zoomed = [zoom(plane, factors, order=order) for plane in planes.reshape(-1, height, width)]
    return np.stack(zoomed).reshape(*rest, *size)
