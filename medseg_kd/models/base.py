"""What training, distillation and prediction ask of every segmentor."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor

from medseg_kd.models.padding import divisible_size, pad_to
from medseg_kd.registry import TASK_UTILS


class SegmentorBase:
    """Tensors in, tensors out: a subclass has ``loss(inputs, labels)`` and ``logits(inputs)``.

    Attributes:
        in_channels: Channels of the input; None where it is not known.
        num_classes: Classes with background.
        num_outputs: Channels of the logits: the classes, the regions, or one for a foreground.
        size_divisor: The input is padded to a multiple of it.
        ignore_index: Label of pixels that take no part.
        predictor: Config of what predicts a case: :class:`~medseg_kd.inference.CasePredictor`.
    """

    in_channels: int | None
    num_classes: int
    num_outputs: int
    regions: Sequence[tuple[str, tuple[int, ...], int]] = ()
    size_divisor: int = 1
    ignore_index: int = 255
    predictor: Any = None

    def loss(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Losses of a batch (N, C, H, W) with labels (N, H, W): name to scalar."""
        raise NotImplementedError

    def logits(self, inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Logits (N, classes, H, W) of (N, C, H, W), or a tuple of them where there are auxiliary ones."""
        raise NotImplementedError

    @property
    def overlapping(self) -> bool:
        """Whether each output has a probability of its own (sigmoid); otherwise those of a pixel add up to 1."""
        return bool(self.regions) or self.num_outputs == 1

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probability of each output, float32, of logits (N, C, H, W)."""
        return logits.float().sigmoid() if self.overlapping else logits.float().softmax(1)

    def decode(self, logits: Tensor) -> Tensor:
        """Classes (N, H, W) uint8 of logits (N, C, H, W): the one of the largest logit."""
        return logits.argmax(1).to(torch.uint8)

    def forward(self, inputs: Any, labels: Any = None, meta: Any = None, mode: str = "tensor") -> Any:
        """Run the segmentor: :meth:`logits` in mode ``tensor``, else :meth:`loss` or :meth:`predict`."""
        if mode == "loss":
            return self.loss(inputs, labels)
        if mode == "predict":
            return self.predict(inputs, labels, meta)
        if mode == "tensor":
            return self.logits(inputs)
        raise ValueError(f"mode is {mode!r}, expected 'tensor', 'loss' or 'predict'")

    def predict(self, inputs: Any, labels: Any = None, meta: Any = None) -> list[SegDataSample]:
        """Predict slices (N, C, H, W) or a list of volumes (S, C, H, W).

        Args:
            inputs: Slices or volumes.
            labels: For each (S, H, W), (H, W) or None; kept in the sample as ``gt_sem_seg``.
            meta: For each a dict, kept as meta information; ``ori_shape`` is the grid that the prediction comes on.

        Returns:
            A sample each, with ``pred_sem_seg``, uint8 (S, H, W) on the CPU (S = 1 for a slice).
        """
        volumes = inputs if isinstance(inputs, (list, tuple)) else inputs[:, None]
        samples = []
        for index, volume in enumerate(volumes):
            about = meta[index] if meta else {}
            sample = SegDataSample(metainfo=about)
            sample.pred_sem_seg = PixelData(data=self.predict_volume(volume, about.get("ori_shape"), about))
            truth = None if labels is None else labels[index]
            if truth is not None:
                sample.gt_sem_seg = PixelData(data=truth if truth.ndim == 3 else truth[None])
            samples.append(sample)
        return samples

    def predict_volume(
        self, volume: Tensor, size: tuple[int, int] | None = None, about: Mapping[str, Any] | None = None
    ) -> Tensor:
        """Labels (S, height, width) of a case (S, C, H, W), uint8 on the CPU.

        Args:
            size: (height, width) to come out; None: as large as it came in.
            about: The case's meta, for segmentors that ask where its voxels lie.
        """
        return self.case_predictor()(self, volume, size)

    def case_predictor(self) -> Any:
        """What predicts a case, built when it is first asked for."""
        if not callable(self.predictor):
            self.predictor = TASK_UTILS.build({"type": "medseg_kd.CasePredictor", **(self.predictor or {})})
        return self.predictor

    def pad(
        self, inputs: Tensor, labels: Tensor | None = None, divisor: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Pad a batch right and below to a multiple of ``divisor`` (None: ``size_divisor``).

        The image is padded with 0, the labels with ``ignore_index``.
        """
        size = divisible_size((inputs.shape[-2], inputs.shape[-1]), divisor or self.size_divisor)
        return pad_to(inputs, size, 0), None if labels is None else pad_to(labels, size, self.ignore_index)


def parse_losses(model: BaseModel, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """What MMEngine's ``parse_losses`` gives, without the mean of what is one number already.

    Returns:
        The sum of what has "loss" in its name, and all terms with the sum in front.
    """
    terms = [value for name, value in losses.items() if "loss" in name]
    if not terms or not all(isinstance(value, Tensor) and value.ndim == 0 for value in losses.values()):
        return BaseModel.parse_losses(model, losses)
    total = functools.reduce(torch.add, terms)
    return total, {"loss": total, **losses}


def outputs_of(output: Any) -> tuple[Any, ...]:
    """What a network returned, the main logits first.

    MONAI's ``DynUNet`` returns one tensor in training, (N, outputs, classes, H, W).
    """
    if isinstance(output, Tensor) and output.ndim == 5:
        return output.unbind(1)
    return tuple(output) if isinstance(output, (list, tuple)) else (output,)
