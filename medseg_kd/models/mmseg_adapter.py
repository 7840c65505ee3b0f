"""MMSegmentation's segmentors as ours: tensor batches in, their own names, module paths and losses as they are."""

import functools
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from mmseg.models.segmentors import BaseSegmentor
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.nn.functional import interpolate

from medseg_kd.models.base import SegmentorBase
from medseg_kd.models.preprocessor import SlicePreprocessor, replace_mmseg
from medseg_kd.registry import MODELS


class _Adapted(SegmentorBase):
    """What :func:`adapt` puts before a class of MMSegmentation."""

    test_cfg: Any

    def loss(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """See :meth:`SegmentorBase.loss`; the losses are those of the heads."""
        inputs, padded = self.pad(inputs, labels)
        label = (labels if padded is None else padded).long()
        samples = [SegDataSample(gt_sem_seg=PixelData(data=each[None])) for each in label]
        return super(SegmentorBase, self).loss(inputs, samples)  # type: ignore[misc]

    def logits(self, inputs: Tensor) -> Tensor:
        """See :meth:`SegmentorBase.logits`; in windows where ``test_cfg.mode`` is ``slide``."""
        height, width = inputs.shape[-2:]
        return self._padded_logits(self.pad(inputs)[0])[..., :height, :width]

    def _padded_logits(self, inputs: Tensor) -> Tensor:
        """Logits of slices that need no padding, at their size."""
        size = tuple(inputs.shape[-2:])
        if not self.training and (self.test_cfg or {}).get("mode") == "slide":  # type: ignore[attr-defined]
            metas = [dict(ori_shape=size, img_shape=size, pad_shape=size, padding_size=[0, 0, 0, 0])] * len(inputs)
            return self.inference(inputs, metas)  # type: ignore[attr-defined]
        logits = self._forward(inputs)  # type: ignore[attr-defined]
        # Some heads give what their auxiliary losses take, too.
        logits = logits[0] if isinstance(logits, tuple) else logits
        return interpolate(logits, size=size, mode="bilinear", align_corners=_last_head(self).align_corners)

    def decode(self, logits: Tensor) -> Tensor:
        """See :meth:`SegmentorBase.decode`; a head of one output tells foreground by its ``threshold``."""
        if logits.shape[1] > 1:
            return super().decode(logits)
        return (logits[:, 0].sigmoid() > _last_head(self).threshold).to(torch.uint8)


@functools.cache
def _adapted(kind: type[BaseSegmentor]) -> type[BaseSegmentor]:
    """The class that adapts another; its name stays."""
    return type(kind.__name__, (_Adapted, kind), {"__module__": kind.__module__, "__doc__": kind.__doc__})


def adapt(model: Any) -> Any:
    """Give a segmentor of MMSegmentation the interface of ours, in place; any other model stays as it is.

    Its ``data_preprocessor`` becomes a :class:`SlicePreprocessor`, unless it is one, and the model pads to the
    ``size_divisor`` that it had.

    Raises:
        UserError: See :func:`~medseg_kd.models.preprocessor.replace_mmseg`.
    """
    if not isinstance(model, BaseSegmentor) or isinstance(model, _Adapted):
        return model
    model.__class__ = _adapted(type(model))  # type: ignore[arg-type]
    head = _last_head(model)
    model.num_classes, model.ignore_index = head.num_classes, head.ignore_index
    model.num_outputs = head.out_channels
    convolutions = (module for module in model.modules() if isinstance(module, nn.Conv2d))
    model.in_channels = next((first.in_channels for first in convolutions), None)
    given = model.data_preprocessor
    model.size_divisor = getattr(given, "size_divisor", None) or 1
    model.data_preprocessor = replace_mmseg(given, head.ignore_index)
    if not isinstance(model.data_preprocessor, SlicePreprocessor):
        model.data_preprocessor = SlicePreprocessor(ignore_index=head.ignore_index)
    return model


def build_segmentor(model: dict[str, Any] | BaseModel) -> Any:
    """Build a segmentor, ours or MMSegmentation's.

    Args:
        model: A config, or a segmentor; ``dict(cfg_path=...)`` names a config file whose ``model`` is taken, as in
            MMRazor.
    """
    if not isinstance(model, nn.Module):
        model = MODELS.build(Config.fromfile(model["cfg_path"]).model if "cfg_path" in model else model)
    return adapt(model)


def _last_head(model: Any) -> Any:
    """The head whose logits are the prediction; of a cascade the last."""
    head = model.decode_head
    return head[-1] if isinstance(head, nn.ModuleList) else head
