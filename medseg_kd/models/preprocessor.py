"""From collated samples to what a segmentor takes, on its device."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from scipy.ndimage import zoom
from torch import Tensor

from medseg_kd.errors import UserError
from medseg_kd.models.padding import pad_to
from medseg_kd.registry import MODELS

RESAMPLING = ("bilinear", "transunet")


@MODELS.register_module()
class SlicePreprocessor(BaseDataPreprocessor):
    """Move a batch to the device, stack it, resize it, augment it.

    Training slices of one batch may differ in size: they are padded to the largest, image 0, label ``ignore_index``.
    Test volumes pass through unchanged; the segmentor takes them slice batch by slice batch.

    Args:
        size: (height, width) that slices are resized to; None keeps their own. Predictions come back on the case's
            own grid.
        augmentation: Config of a module that maps (images, labels) to the same; applied in training only.
        ignore_index: Label of padding.
        non_blocking: Overlap the copy to the GPU with computation (needs ``pin_memory=True`` in the loader).
        resampling: How. ``bilinear`` (antialiased, labels nearest; logits bilinear, then the class with the largest),
            on the device; or ``transunet``, what the code behind published Synapse tables does with
            ``scipy.ndimage.zoom``: slices with cubic splines, the class with the largest logit at the network's size,
            labels nearest. That runs on the CPU, slice by slice; in training it comes before the augmentation.
    """

    def __init__(
        self,
        size: tuple[int, int] | None = None,
        augmentation: dict[str, Any] | None = None,
        ignore_index: int = 255,
        non_blocking: bool = True,
        resampling: str = "bilinear",
    ) -> None:
        super().__init__(non_blocking)
        if resampling not in RESAMPLING:
            raise UserError(
                f"model.data_preprocessor.resampling is {resampling!r}: expected one of {', '.join(RESAMPLING)}"
            )
        self.resampling = resampling
        self.size = tuple(size) if size is not None else None
        self.augmentation = MODELS.build(augmentation) if augmentation else None
        self.ignore_index = ignore_index

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepare a batch.

        Args:
            data: ``inputs``, a list of (1, H, W) slices or of (S, 1, H, W) volumes, and ``data_samples``.
            training: Whether to augment.

        Returns:
            Slices: ``inputs`` as one float32 (N, 1, H, W) tensor, labels updated in ``data_samples``.
            Volumes: ``data`` as it came, on the CPU.
        """
        if data["inputs"][0].ndim == 4:
            return data
        data = self.cast_data(data)
        images: list[Tensor] = [image.float() for image in data["inputs"]]
        samples: list[SegDataSample] | None = data.get("data_samples")
        height, width = (max(image.shape[axis] for image in images) for axis in (-2, -1))
        inputs = torch.stack([pad_to(image, (height, width), 0) for image in images])
        if samples is None or "gt_sem_seg" not in samples[0]:
            return {"inputs": self.resize(inputs), "data_samples": samples}
        labels = torch.stack(
            [pad_to(sample.gt_sem_seg.data[0], (height, width), self.ignore_index) for sample in samples]
        ).long()
        inputs = self.resize(inputs)
        if self.size is not None:
            labels = self._resize_labels(labels, self.size)
        if training and self.augmentation is not None:
            inputs, labels = self.augmentation(inputs, labels)
        set_labels(samples, labels)
        return {"inputs": inputs, "data_samples": samples}

    def resize(self, images: Tensor) -> Tensor:
        """Resize (N, C, H, W) images to ``size``; nothing to do where it is None."""
        if self.size is None or tuple(images.shape[-2:]) == self.size:
            return images
        if self.resampling == "transunet":
            return _zoom(images, self.size, order=3)
        return F.interpolate(images, size=self.size, mode="bilinear", align_corners=False, antialias=True)

    def labels(self, logits: Tensor, size: tuple[int, ...]) -> Tensor:
        """Labels (N, height, width) uint8 of logits (N, C, h, w), on the grid that the slices had before."""
        if logits.shape[-2:] == tuple(size):
            return logits.argmax(1).to(torch.uint8)
        if self.resampling == "transunet":
            return self._resize_labels(logits.argmax(1).to(torch.uint8), size)
        resized = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        return resized.argmax(1).to(torch.uint8)

    def _resize_labels(self, labels: Tensor, size: tuple[int, ...]) -> Tensor:
        """Resize (N, H, W) labels without blending them."""
        if self.resampling == "transunet":
            return _zoom(labels, size, order=0)
        # Not "nearest": that takes the pixel up and left of where the bilinear image is sampled.
        return F.interpolate(labels[:, None].float(), size=size, mode="nearest-exact")[:, 0].long()


def _zoom(planes: Tensor, size: tuple[int, ...], order: int) -> Tensor:
    """Resize the last two axes by spline interpolation, plane by plane as TransUNet's ``test_single_volume`` does."""
    factors = [wanted / given for wanted, given in zip(size, planes.shape[-2:], strict=True)]
    flat = planes.cpu().numpy().reshape(-1, *planes.shape[-2:])
    zoomed = np.stack([zoom(plane, factors, order=order) for plane in flat])
    return torch.from_numpy(zoomed).reshape(*planes.shape[:-2], *size).to(planes.device)


def set_labels(samples: list[SegDataSample], labels: Tensor) -> None:
    """Replace the label of each sample by a slice of (N, H, W)."""
    for sample, label in zip(samples, labels, strict=True):
        del sample.gt_sem_seg
        sample.gt_sem_seg = PixelData(data=label[None])
