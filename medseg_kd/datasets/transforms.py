"""Transforms between the file and the batch."""

from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from medseg_kd.datasets.reading import read_slice, read_volume
from medseg_kd.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadSlice(BaseTransform):
    """Reads a training slice into the keys that MMCV's and MMSegmentation's transforms work on.

    Adds ``img`` (H, W) float32 in [0, 1], ``gt_seg_map`` (H, W) uint8, ``seg_fields``, ``img_shape``, ``ori_shape``.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Read the slice ``results['slice']``."""
        pixels = read_slice(results["slice"], results["num_classes"])
        shape = pixels.image.shape
        return {
            **results,
            "img": pixels.image,
            "gt_seg_map": pixels.label,
            "seg_fields": ["gt_seg_map"],
            "img_shape": shape,
            "ori_shape": shape,
        }


@TRANSFORMS.register_module()
class PackSlice(BaseTransform):
    """Makes of the keys of :class:`LoadSlice` what the segmentor takes.

    MMSegmentation's ``PackSegInputs`` fits too; importing its package costs a start of every worker most of a second.

    Gives ``inputs``, (1, H, W) float32, and ``data_samples`` with ``gt_sem_seg`` (1, H, W) int64, the case's name and
    the slice's index.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pack a slice."""
        height, width = results["img"].shape[:2]
        image = np.ascontiguousarray(results["img"], np.float32).reshape(1, height, width)
        label = np.ascontiguousarray(results["gt_seg_map"], np.int64)[None]
        meta = {key: results[key] for key in ("case_name", "slice_index", "ori_shape")}
        sample = SegDataSample(metainfo={**meta, "img_shape": (height, width)})
        sample.gt_sem_seg = PixelData(data=torch.from_numpy(label))
        return {"inputs": torch.from_numpy(image), "data_samples": sample}


@TRANSFORMS.register_module()
class LoadCase(BaseTransform):
    """Reads a case and packs it.

    Gives ``inputs``, (S, 1, H, W) float32, and ``data_samples`` with ``gt_sem_seg`` (S, H, W) uint8, ``case_name``,
    ``spacing`` ((z, y, x) in mm or None), ``geometry`` (see :class:`~medseg_kd.datasets.reading.Pixels`) and
    ``ori_shape`` (H, W).
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Read the case ``results['source']``."""
        pixels = read_volume(results["source"], results["num_classes"])
        sample = SegDataSample(
            metainfo=dict(
                case_name=results["case_name"],
                spacing=pixels.spacing,
                geometry=pixels.geometry,
                ori_shape=tuple(pixels.image.shape[1:]),
            )
        )
        sample.gt_sem_seg = PixelData(data=torch.from_numpy(pixels.label))
        return {"inputs": torch.from_numpy(pixels.image)[:, None], "data_samples": sample}
