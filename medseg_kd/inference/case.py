"""Labels of a case, slice batch by slice batch."""

from typing import Any

import torch
from torch import Tensor

from medseg_kd.datasets.transforms import zoom_planes
from medseg_kd.errors import UserError
from medseg_kd.inference.slice_batch import PROBE, batch_sizes, on_cpu, probe
from medseg_kd.models.resizing import resize
from medseg_kd.registry import TASK_UTILS


@TASK_UTILS.register_module()
class CasePredictor:
    """Predicts the slices of a case with a segmentor.

    Args:
        slice_batch: Slices that are predicted together. None: on a GPU as many as its free memory holds, up to 64, by
            what the first few took; on the CPU 1 of 512x512, up to 8 of smaller ones. The prediction does not depend
            on it.
    """

    def __init__(self, slice_batch: int | None = None) -> None:
        if slice_batch is not None and slice_batch < 1:
            raise UserError(f"model.slice_batch is {slice_batch}: expected at least 1, or None to choose it by memory")
        self.slice_batch = slice_batch
        self._fitting: dict[torch.Size, int] = {}

    @torch.no_grad()
    def __call__(self, model: Any, volume: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Label map of a case.

        Args:
            model: A segmentor: maps (n, C, H, W) to logits, decodes them, and has a ``data_preprocessor`` that resizes.
            volume: (S, C, H, W) slices on any device.
            size: (height, width) of the case's own grid, where the slices were resized when they were read; the labels
                go back to it by nearest neighbours.

        Returns:
            (S, height, width) uint8 on the CPU.
        """
        device = next(model.parameters()).device
        slices = volume.split(self._batches(model, volume, device))
        # One copy for the case: each would wait for the device.
        labels = torch.cat([_predict(model, batch, device) for batch in slices]).cpu()
        if size is None or tuple(labels.shape[-2:]) == tuple(size):
            return labels
        return torch.from_numpy(zoom_planes(labels.numpy(), size, order=0))

    def _batches(self, model: Any, volume: Tensor, device: torch.device) -> int | list[int]:
        """Sizes of the slice batches of a case; the first case of a size on a GPU is what they are measured on."""
        if self.slice_batch is not None:
            return self.slice_batch
        shape = volume.shape[1:]
        if device.type != "cuda":
            return on_cpu(shape[-2:].numel())
        if shape not in self._fitting:
            few = volume[:PROBE]
            self._fitting[shape] = probe(device, lambda: _predict(model, few, device), len(few))
        return batch_sizes(len(volume), self._fitting[shape])


def _predict(model: Any, slices: Tensor, device: torch.device) -> Tensor:
    """Labels (n, H, W) uint8, on the device, of slices (n, C, H, W)."""
    slices = slices.to(device, torch.float32, non_blocking=True)
    logits = model(model.data_preprocessor.resize(slices))
    logits = logits[0] if isinstance(logits, tuple) else logits
    return model.decode(resize(logits, slices.shape[-2:]))
