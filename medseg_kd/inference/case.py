"""Labels of a case, slice batch by slice batch."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from medseg_kd.datasets.transforms import zoom_planes
from medseg_kd.errors import UserError
from medseg_kd.inference.decoding import decoder
from medseg_kd.inference.slice_batch import PROBE, batch_sizes, on_cpu, probe
from medseg_kd.models.resizing import resize
from medseg_kd.registry import TASK_UTILS

Keep = Callable[[Tensor], None]
"""Takes the probabilities of each slice batch in order, (n, C, height, width) float32 on the CPU."""


@TASK_UTILS.register_module()
class CasePredictor:
    """Predicts the slices of a case with a segmentor, or with several, whose probabilities are averaged.

    Beside the case and its labels, memory holds the probabilities of one slice batch.

    Args:
        slice_batch: Slices that are predicted together. None: on a GPU as many as its free memory holds, up to 64, by
            what the first few took; on the CPU 1 of 512x512, up to 8 of smaller ones. The prediction does not depend
            on it.
        tta: Average over the flips and right angles too that the training of each segmentor showed.
        decoding: See :func:`~medseg_kd.inference.decoding.decoder`.
        others: Segmentors beside the one that it is called with.
    """

    def __init__(
        self, slice_batch: int | None = None, tta: bool = False, decoding: str = "argmax", others: Sequence[Any] = ()
    ) -> None:
        if slice_batch is not None and slice_batch < 1:
            raise UserError(f"model.slice_batch is {slice_batch}: expected at least 1, or None to choose it by memory")
        self.slice_batch, self.tta, self.others = slice_batch, tta, tuple(others)
        self.decode = decoder(decoding)
        self._plain = decoding == "argmax" and not tta and not others
        self._fitting: dict[torch.Size, int] = {}

    @torch.no_grad()
    def __call__(
        self, model: Any, volume: Tensor, size: tuple[int, int] | None = None, keep: Keep | None = None
    ) -> Tensor:
        """Label map of a case.

        Args:
            model: A segmentor: maps (n, C, H, W) to logits, decodes them, and has a ``data_preprocessor`` that resizes.
            volume: (S, C, H, W) slices on any device.
            size: (height, width) of the case's own grid, where the slices were resized when they were read; the labels
                go back to it by nearest neighbours, and the probabilities alike, unless the model's preprocessor
                resizes logits.
            keep: Takes the probabilities.

        Returns:
            (S, height, width) uint8 on the CPU.
        """
        device = next(model.parameters()).device
        grid = size if getattr(model.data_preprocessor, "resizes_logits", False) else None

        def back(planes: Tensor) -> Tensor:
            if size is None or tuple(planes.shape[-2:]) == tuple(size):
                return planes
            return torch.from_numpy(zoom_planes(planes.numpy(), size, order=0))

        kept = None if keep is None else lambda probabilities: keep(back(probabilities.cpu()))
        slices = volume.split(self._batches(model, volume, device))
        # One copy for the case: each would wait for the device.
        return back(torch.cat([self._predict(model, batch, device, kept, grid) for batch in slices]).cpu())

    def _batches(self, model: Any, volume: Tensor, device: torch.device) -> int | list[int]:
        """Sizes of the slice batches of a case; the first case of a size on a GPU is what they are measured on."""
        if self.slice_batch is not None:
            return self.slice_batch
        shape = volume.shape[1:]
        if device.type != "cuda":
            return on_cpu(shape[-2:].numel())
        if shape not in self._fitting:
            few = volume[:PROBE]
            self._fitting[shape] = probe(device, lambda: self._predict(model, few, device), len(few))
        return batch_sizes(len(volume), self._fitting[shape])

    def _predict(
        self, model: Any, slices: Tensor, device: torch.device, keep: Keep | None = None, grid: Any = None
    ) -> Tensor:
        """Labels (n, H, W) uint8, on the device and on ``grid`` or their own one, of slices (n, C, H, W)."""
        slices = slices.to(device, torch.float32, non_blocking=True)
        if self._plain and keep is None:
            return model.decode(slice_logits(model, slices, grid))
        probabilities = _mean(_mean(self._probabilities(each, slices, grid)) for each in (model, *self.others))
        if keep is not None:
            keep(probabilities)
        return self.decode(model, probabilities)

    def _probabilities(self, model: Any, slices: Tensor, grid: Any = None) -> Iterator[Tensor]:
        """Probabilities (n, outputs, H, W) of slices (n, C, H, W) as they lie, and of each view, turned back."""
        shown = model.data_preprocessor.resize(slices)
        views = views_of(model, shown.shape[-2] == shown.shape[-1]) if self.tta else []
        for turns, mirrored in [(0, False), *views]:
            yield model.probabilities(_logits(model, grid or slices.shape[-2:], shown, turns, mirrored))


def slice_logits(model: Any, slices: Tensor, grid: Any = None) -> Tensor:
    """Logits (n, classes, H, W) of slices (n, C, H, W), at their size or that of ``grid``."""
    return _logits(model, grid or slices.shape[-2:], model.data_preprocessor.resize(slices))


def _logits(model: Any, grid: Any, shown: Tensor, turns: int = 0, mirrored: bool = False) -> Tensor:
    """Logits on a ``grid`` of what is ``shown`` of slices to the network, turned before and back after."""
    turned = shown.rot90(turns, (-2, -1))
    logits = model(turned.flip(-1) if mirrored else turned)
    logits = logits[0] if isinstance(logits, tuple) else logits
    logits = (logits.flip(-1) if mirrored else logits).rot90(-turns, (-2, -1))
    return resize(logits, grid, getattr(model, "align_corners", False))


def _mean(tensors: Iterator[Tensor]) -> Tensor:
    """Mean of tensors that are not all there at once."""
    total, count = next(tensors), 1
    for tensor in tensors:
        total += tensor
        count += 1
    return total if count == 1 else total.div_(count)


def views_of(model: Any, square: bool = False) -> list[tuple[int, bool]]:
    """Right angles and flips that the training of a segmentor showed: (quarter turns, then mirrored left to right)."""
    augmentation = getattr(model.data_preprocessor, "augmentation", None)
    return [] if augmentation is None or not hasattr(augmentation, "views") else augmentation.views(square)


def predict_with(model: Any, tta: bool = False, decoding: str = "argmax", others: Sequence[Any] = ()) -> None:
    """Let a segmentor predict cases as :class:`CasePredictor` says.

    Raises:
        UserError: ``tta`` is asked of one that was not trained on flips or right angles, or ``decoding`` is not known.
    """
    if hasattr(model, "mirror_axes"):
        if decoding != "argmax" or others:
            raise UserError("nnU-Net's logits are decoded as it decodes them: leave --decode and --ensemble out")
        model.predictor = {**model.predictor, "mirror": tta}
        return
    if tta and not all(map(views_of, (model, *others))):
        raise UserError(
            "test-time augmentation: the training showed no flips or right angles "
            "(model.data_preprocessor.augmentation), so that the network does not know such slices. Leave --tta out"
        )
    given = model.predictor
    slice_batch = given.slice_batch if isinstance(given, CasePredictor) else (given or {}).get("slice_batch")
    model.predictor = CasePredictor(slice_batch, tta, decoding, others)
