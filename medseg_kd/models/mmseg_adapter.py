"""MMSegmentation's segmentors as ours: tensor batches in, their own names, module paths and losses as they are."""

import functools
import inspect
import logging
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import BaseSegmentor
from mmseg.models.utils import resize
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from medseg_kd.errors import UserError
from medseg_kd.models.base import SegmentorBase
from medseg_kd.models.losses import build_losses
from medseg_kd.models.losses.call import LossCall
from medseg_kd.models.losses.trial import try_loss
from medseg_kd.models.mmseg_preprocessor import replace_mmseg
from medseg_kd.models.preprocessor import SlicePreprocessor
from medseg_kd.models.stages import Stage, complete
from medseg_kd.registry import MODELS


class _Adapted(SegmentorBase):
    """What :func:`adapt` puts before a class of MMSegmentation."""

    test_cfg: Any

    @property
    def feature_info(self) -> list[Stage]:
        """Stages of the backbone: the maps that it returns, see :func:`~medseg_kd.models.stages.complete`."""
        return complete(self, [{"module": "backbone"}])

    def loss(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """See :meth:`SegmentorBase.loss`; the losses are those of the heads."""
        inputs, padded = self.pad(inputs, labels)
        label = (labels if padded is None else padded).long()
        samples = [SegDataSample(gt_sem_seg=PixelData(data=each[None])) for each in label]
        return super(SegmentorBase, self).loss(inputs, samples)  # type: ignore[misc]

    def logits(self, inputs: Tensor) -> Tensor:
        """See :meth:`SegmentorBase.logits`; in windows where ``test_cfg.mode`` is ``slide``."""
        height, width = inputs.shape[-2:]
        padded, _ = self.pad(inputs)
        size = tuple(padded.shape[-2:])
        if not self.training and (self.test_cfg or {}).get("mode") == "slide":  # type: ignore[attr-defined]
            metas = [dict(ori_shape=size, img_shape=size, pad_shape=size, padding_size=[0, 0, 0, 0])] * len(padded)
            logits = self.inference(padded, metas)  # type: ignore[attr-defined]
        else:
            logits = self._forward(padded)  # type: ignore[attr-defined]
            # Some heads give what their auxiliary losses take, too.
            logits = logits[0] if isinstance(logits, tuple) else logits
            logits = resize(logits, size, mode="bilinear", align_corners=_last_head(self).align_corners)
        return logits[..., :height, :width]

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

    Its ``data_preprocessor`` becomes this project's :class:`SegDataPreProcessor` around it, or a
    :class:`SlicePreprocessor` where it had none, and the model pads to the ``size_divisor`` that it had. Losses in its
    heads that are not made for them are called as those of ours.

    Raises:
        UserError: See :func:`~medseg_kd.models.mmseg_preprocessor.replace_mmseg` and
            :func:`~medseg_kd.models.losses.build_losses`.
    """
    if not isinstance(model, BaseSegmentor) or isinstance(model, _Adapted):
        return model
    model.__class__ = _adapted(type(model))  # type: ignore[arg-type]
    head = _last_head(model)
    model.num_classes, model.ignore_index = head.num_classes, head.ignore_index
    model.num_outputs = head.out_channels
    convolutions = (module for module in model.modules() if isinstance(module, nn.Conv2d))
    model.in_channels = next((first.in_channels for first in convolutions), None)
    model.data_preprocessor = replace_mmseg(model.data_preprocessor, head.ignore_index)
    model.size_divisor = getattr(model.data_preprocessor, "size_divisor", None) or 1
    if not isinstance(model.data_preprocessor, SlicePreprocessor):
        model.data_preprocessor = SlicePreprocessor(ignore_index=head.ignore_index)
    for name, each in list(model.named_modules()):
        if isinstance(each, BaseDecodeHead) and isinstance(getattr(each, "loss_decode", None), nn.Module):
            _adapt_losses(each, f"model.{name}.loss_decode")
    return model


class _HeadLoss(nn.Module):
    """Any loss as a head of MMSegmentation calls its own."""

    def __init__(self, loss: nn.Module, call: LossCall) -> None:
        super().__init__()
        self.loss, self.call, self.loss_name = loss, call, call.name

    def forward(self, logits: Tensor, label: Tensor, weight: None = None, ignore_index: int = 255) -> Tensor:
        """See :class:`LossCall`."""
        return self.call(self.loss, logits, label)


def _adapt_losses(head: Any, where: str) -> None:
    """Wrap the losses of a head that are not made for one, and name those of MMSegmentation that count all pixels."""
    given = head.loss_decode
    losses = list(given) if isinstance(given, nn.ModuleList) else [given]
    settings = head.out_channels, head.num_classes, head.ignore_index
    for index, loss in enumerate(losses):
        if not hasattr(loss, "loss_name") or not _takes_weight(loss):
            if head.sampler is not None:
                raise UserError(
                    f"{where}: {type(loss).__name__} takes no weights of pixels. Leave out the head's sampler"
                )
            _, (call,) = build_losses([loss], *settings, where=where)
            losses[index] = _HeadLoss(loss, call)
        elif not _leaves_out(loss, *settings):
            print_log(
                f"{where}: MMSegmentation's {type(loss).__name__} counts ignored pixels (label {head.ignore_index}: of "
                "the data, or padding) like all others",
                "current",
                logging.WARNING,
            )
    head.loss_decode = nn.ModuleList(losses) if isinstance(given, nn.ModuleList) else losses[0]


def _takes_weight(loss: nn.Module) -> bool:
    """Whether a loss takes weights of pixels, as a head of MMSegmentation hands them over."""
    parameters = inspect.signature(loss.forward).parameters
    return "weight" in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def _leaves_out(loss: nn.Module, outputs: int, classes: int, ignore_index: int) -> bool:
    """Whether a loss leaves ignored pixels out; True too where its head calls it in a way of its own."""
    call = LossCall(loss, "", ignore_index)
    try:
        try_loss(loss, call, outputs, classes)
    except UserError:
        return True
    return call.leaves_out


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
