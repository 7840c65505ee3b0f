"""MMSegmentation's preprocessor: its own batches as it prepares them, those of this project as they are."""

import inspect
from typing import Any

import numpy as np
import torch
from mmseg.models import data_preprocessor as theirs

from medseg_kd.errors import UserError
from medseg_kd.models.preprocessor import SlicePreprocessor, without_samples
from medseg_kd.registry import MODELS


@MODELS.register_module()
class SegDataPreProcessor(SlicePreprocessor):
    """Takes mean and deviation, channel order and padding to what MMSegmentation's data sets read, by its own code.

    Images of this project's data sets come by the intensity rules of their spec: nothing is done to their values here,
    and a runner refuses rules that give a network others than :attr:`values` says. Predictions of MMSegmentation's data
    sets come on their ``ori_shape`` as its own do: the logits are resized, not the labels.

    Args:
        image_size: (height, width) that images of files are resized to where the network predicts them; a runner
            takes it from the ``Resize`` of the test pipeline. None keeps their own.
        ignore_index: Label of padding in batches of this project.
        options: Arguments of MMSegmentation's class.
    """

    antialias = False
    resizes_logits = True

    def __init__(self, image_size: tuple[int, int] | None = None, ignore_index: int = 255, **options: Any) -> None:
        super().__init__(image_size, ignore_index=ignore_index)
        self.take(theirs.SegDataPreProcessor(**options))

    def take(self, given: theirs.SegDataPreProcessor) -> None:
        """Do what ``given`` does, but for its padding in a test, which is the segmentor's work."""
        padded = given.test_cfg or {}
        if padded.get("size"):
            raise UserError("model.data_preprocessor.test_cfg pads to a size: only size_divisor can be set there")
        self.given, self.size_divisor = given, given.size_divisor or padded.get("size_divisor")
        given.test_cfg = None
        scale = (
            [in_float32(each.cpu()) for each in (given.mean, given.std)] if given._enable_normalize else [None, None]
        )
        self.values = (*scale, given._channel_conversion)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepare a batch, see :meth:`SlicePreprocessor.forward`; labels of a test stay a list, of their own sizes."""
        if "data_samples" not in data:
            return super().forward(data, training)
        if self.values != super().values and not all("img_path" in sample for sample in data["data_samples"]):
            raise UserError(
                "dataset.pipeline: samples without img_path may be of any reader, and model.data_preprocessor would "
                "scale those that have the values of dataset.spec. Name img_path in meta_keys of PackSegInputs for "
                "MMSegmentation's files, or end the pipeline with PackSlice"
            )
        if not training:
            self._check_tested(data)
        with torch.autocast(self.device.type, enabled=False):
            batch = without_samples(self.given(data, training))
        inputs, labels = batch["inputs"], batch["labels"]
        self.pixels = inputs.shape[0] * inputs.shape[2] * inputs.shape[3]
        if labels is not None:
            labels = [label.to(torch.uint8) for label in labels]
        return {**batch, "labels": torch.stack(labels) if training and labels else labels}

    @staticmethod
    def _check_tested(data: dict[str, Any]) -> None:
        """Refuse a batch whose predictions would not lie on their labels, or that cannot be stacked."""
        if any(sample.metainfo.get("flip") for sample in data["data_samples"]):
            raise UserError("dataset.pipeline of a test flips images: take RandomFlip out of it")
        if len({image.shape for image in data["inputs"]}) > 1:
            raise UserError("the images of a test differ in size: set batch_size=1 in its dataloader")


def in_float32(numbers: Any) -> list[float]:
    """Numbers as float32 has them, each by the shortest text that stands for it, such as 123.675."""
    return [float(str(each)) for each in np.asarray(numbers, np.float32).ravel()]


def _with_options() -> inspect.Signature:
    """What a config gives: the arguments of both classes."""
    own, its = (list(inspect.signature(each).parameters.values()) for each in (_init, theirs.SegDataPreProcessor))
    return inspect.Signature([*own[:-1], *(each.replace(kind=each.KEYWORD_ONLY) for each in its)])


_init: Any = SegDataPreProcessor.__init__
_init.__signature__ = _with_options()


def replace_mmseg(preprocessor: Any, ignore_index: int) -> Any:
    """A :class:`SegDataPreProcessor` of this project around MMSegmentation's; any other stays.

    Args:
        preprocessor: A module.
        ignore_index: Label of padding in batches of this project.

    Raises:
        UserError: It pads to a fixed size in a test.
    """
    if not isinstance(preprocessor, theirs.SegDataPreProcessor):
        return preprocessor
    replaced = SegDataPreProcessor(ignore_index=ignore_index)
    replaced.take(preprocessor)
    return replaced
