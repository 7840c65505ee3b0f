"""From a collated batch to what a segmentor takes, on its device."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from medseg_kd.errors import UserError
from medseg_kd.models.padding import pad_to
from medseg_kd.registry import MODELS


@MODELS.register_module()
class SlicePreprocessor(BaseDataPreprocessor):
    """Move a batch to the device, stack it, resize it, augment it; in float32, whatever autocast says.

    Training slices of one batch may differ in size: each is resized, or without ``size`` padded to the largest, image
    0, label ``ignore_index``. Test volumes pass through unchanged; they are predicted slice batch by slice batch.

    Args:
        size: (height, width) that slices are resized to (bilinear and antialiased, labels nearest; logits go back
            bilinearly before the class is chosen); None keeps their own. Predictions come back on the case's own grid.
        augmentation: Config of a module that maps (images, labels) to the same; applied in training only. For a stored
            teacher it takes ``soft`` too, see :meth:`RandomRotateFlip.forward`.
        ignore_index: Label of padding.
        non_blocking: Overlap the copy to the GPU with computation (needs ``pin_memory=True`` in the loader).
        resampling: ``bilinear``.

    Attributes:
        pixels: Of the last batch.
        values: What is done to the values of images that MMSegmentation's data sets read: mean and deviation by which
            they are scaled (None: they are not), and whether their channels are reversed.
        antialias: Resizes down as an average; otherwise as OpenCV does.
        resizes_logits: Where slices were resized when they were read, logits go back to their grid, and not labels.
        keeps_unlabelled: Slices all of whose pixels are ignored stay so, also where augmentation brings in background
            from outside: a teacher is to label them.
    """

    values: tuple[Any, ...] = (None, None, False)
    antialias = True
    resizes_logits = False
    keeps_unlabelled = False

    def __init__(
        self,
        size: tuple[int, int] | None = None,
        augmentation: dict[str, Any] | None = None,
        ignore_index: int = 255,
        non_blocking: bool = True,
        resampling: str = "bilinear",
    ) -> None:
        super().__init__(non_blocking)
        if resampling != "bilinear":
            raise UserError(
                f"model.data_preprocessor.resampling is {resampling!r}: expected bilinear. TransUNet's resizing "
                f"belongs to the reading: set dataset.size={size} in all three dataloaders and leave both out here"
            )
        if size is not None and (not isinstance(size, (list, tuple)) or [type(side) for side in size] != [int, int]):
            raise UserError(f"model.data_preprocessor.size is {size!r}: expected (height, width), or None")
        self.size = None if size is None else (size[0], size[1])
        self.augmentation = MODELS.build(augmentation) if augmentation else None
        self.ignore_index = ignore_index
        self.pixels = 0

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepare a batch.

        Args:
            data: ``inputs``, slices (N, C, H, W), a list of slices (C, H, W) or of volumes (S, C, H, W); ``labels``
                (N, H, W) or a list of (H, W); ``meta``. In place of the last two ``data_samples`` of MMSegmentation.
                With labels there may be ``soft``, probabilities (N, K, H, W), which move with the image: resized
                alike, and background where the image is padded.
            training: Whether to augment.

        Returns:
            Slices: ``inputs`` float32 (N, C, H, W), ``labels`` uint8 (N, H, W) or None, ``meta``, ``soft`` float32.
            Volumes: as they came, on the CPU.
        """
        data = without_samples(data)
        if data["inputs"][0].ndim == 4:
            return data
        with torch.autocast(self.device.type, enabled=False):
            inputs = self._stack(self.cast_data(data["inputs"]), self.resize, 0).float()
            self.pixels = inputs.shape[0] * inputs.shape[2] * inputs.shape[3]
            labels = data["labels"]
            if labels is None or labels[0] is None:
                return {**data, "inputs": inputs, "labels": None}
            labels = self._stack(self.cast_data(labels), self._resize_labels, self.ignore_index).to(torch.uint8)
            # Less the background's 1, so that what comes in from outside, which is 0, is background.
            soft = [self.resize(_add_background(self.cast_data(data["soft"]).float(), -1))] if "soft" in data else []
            if training and self.augmentation is not None:
                if soft and "soft" not in inspect.signature(self.augmentation.forward).parameters:
                    raise UserError(
                        f"model.data_preprocessor.augmentation: the forward of {type(self.augmentation).__name__} has "
                        "no argument soft, so the soft labels of a stored teacher would not move with the slices. "
                        "Choose another, or a teacher that runs"
                    )
                is_unlabelled = (labels == self.ignore_index).flatten(1).all(1) if self.keeps_unlabelled else None
                inputs, labels, *soft = self.augmentation(inputs, labels, *soft)
                if is_unlabelled is not None:
                    labels = labels.masked_fill(is_unlabelled[:, None, None], self.ignore_index)
        moved = {"soft": _add_background(soft[0], 1)} if soft else {}
        return {**data, "inputs": inputs, "labels": labels, **moved}

    def resize(self, images: Tensor) -> Tensor:
        """Resize (N, C, H, W) images to ``size``; nothing to do where it is None."""
        if self.size is None or tuple(images.shape[-2:]) == self.size:
            return images
        return F.interpolate(images.float(), self.size, mode="bilinear", align_corners=False, antialias=self.antialias)

    def _resize_labels(self, labels: Tensor) -> Tensor:
        """Resize (N, H, W) labels to ``size`` without blending them."""
        if self.size is None or tuple(labels.shape[-2:]) == self.size:
            return labels
        # Not "nearest": that takes the pixel up and left of where the bilinear image is sampled.
        return F.interpolate(labels[:, None].to(torch.uint8), size=self.size, mode="nearest-exact")[:, 0]

    def _stack(self, planes: Tensor | Sequence[Tensor], resize: Any, padding: int) -> Tensor:
        """One tensor of slices, resized, or padded to the largest of them."""
        if isinstance(planes, Tensor):
            return resize(planes)
        resized = [resize(plane[None]) for plane in planes]
        height, width = (max(plane.shape[axis] for plane in resized) for axis in (-2, -1))
        return torch.cat([pad_to(plane, (height, width), padding) for plane in resized])


def _add_background(soft: Tensor, amount: float) -> Tensor:
    """Probabilities (N, K, H, W) with so much more of the first class."""
    return torch.cat((soft[:, :1] + amount, soft[:, 1:]), dim=1)


def in_words(values: tuple[Any, ...]) -> str:
    """What a preprocessor does to values, its :attr:`SlicePreprocessor.values`."""
    mean, std, is_reversed = values
    return f"mean={mean}, std={std}, channels {'reversed' if is_reversed else 'as they are'}"


def without_samples(data: dict[str, Any]) -> dict[str, Any]:
    """A batch as tensors, also where its pipeline made MMSegmentation's samples."""
    if "data_samples" not in data:
        soft = {"soft": data["soft"]} if "soft" in data else {}
        return {"inputs": data["inputs"], "labels": data.get("labels"), "meta": data.get("meta"), **soft}
    samples = data["data_samples"] or []
    labels = [sample.gt_sem_seg.data.squeeze(0) for sample in samples if "gt_sem_seg" in sample]
    return {"inputs": data["inputs"], "labels": labels or None, "meta": [_about(sample.metainfo) for sample in samples]}


def _about(metainfo: dict[str, Any]) -> dict[str, Any]:
    """What a sample of MMSegmentation tells, with the name of its file as that of a case."""
    return {"case_name": Path(metainfo["img_path"]).stem, **metainfo} if metainfo.get("img_path") else metainfo
