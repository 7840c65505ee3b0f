"""The segmentor: any network that maps slices to class logits, with its losses."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from medseg_kd.errors import UserError
from medseg_kd.models.base import SegmentorBase, outputs_of, parse_losses
from medseg_kd.models.losses import build_losses
from medseg_kd.models.mmseg_preprocessor import replace_mmseg
from medseg_kd.models.norms import batches_counted_together
from medseg_kd.models.preprocessor import SlicePreprocessor
from medseg_kd.models.resizing import resize
from medseg_kd.models.stages import Stage, complete, told_by
from medseg_kd.models.types import find_type
from medseg_kd.registry import MODELS, check_arguments


@MODELS.register_module()
class Segmentor(SegmentorBase, BaseModel):
    """Wraps a module that maps (N, C, H, W) to logits (N, classes, h, w): one of ours, MONAI's, or the user's own.

    The logits may be smaller than the input; they are resized bilinearly. In training the network may return a tuple
    of logits, the main ones first, or as MONAI's ``DynUNet`` one tensor (N, outputs, classes, h, w).

    Args:
        network: Config or module; ``monai.<Name>`` is a network of MONAI, ``smp.<Name>`` one of
            segmentation_models_pytorch. ``num_classes`` (or ``out_channels``, ``classes``), ``in_channels`` and
            ``spatial_dims=2`` are filled in where its constructor takes them and the config does not say.
        num_classes: Classes with background. The runner takes them from the data where a config does not say.
        losses: Configs of modules called as ``loss(logits, label)``, ours or anybody's, see
            :func:`~medseg_kd.models.losses.build_losses`. None builds a segmentor that cannot be trained.
        output_weights: Weight of each output of the network in training, the main one first. None: what the network
            says (``output_weights``), else 1 for a single output.
        in_channels: Channels of the input; None: what the network says, else 1. The runner takes them from the data
            where a config does not say.
        size_divisor: The input is padded to a multiple of it; None asks the network (``size_divisor``, else 1).
        slice_batch: See :class:`~medseg_kd.inference.CasePredictor`.
        ignore_index: Label of pixels that take no part.
        data_preprocessor: Config of :class:`SlicePreprocessor`; its defaults where it is left out.
        feature_info: Stages of the network, in place of what it says itself: ``dict(module=..., channels=...,
            reduction=...)``, shallow to deep, with paths from the segmentor; what is left out is found, what is given
            is checked (:func:`~medseg_kd.models.stages.complete`).
    """

    _counted = "model.num_classes"

    def __init__(
        self,
        network: dict[str, Any] | nn.Module,
        num_classes: int | None = None,
        losses: Sequence[dict[str, Any]] | None = None,
        output_weights: Sequence[float] | None = None,
        in_channels: int | None = None,
        size_divisor: int | None = None,
        slice_batch: int | None = None,
        ignore_index: int = 255,
        data_preprocessor: dict[str, Any] | nn.Module | None = None,
        init_cfg: dict | list[dict] | None = None,
        feature_info: Sequence[dict[str, Any]] = (),
    ) -> None:
        for key, value in (("num_classes", num_classes), ("in_channels", 1 if in_channels is None else in_channels)):
            if type(value) is not int or value < 1:
                raise UserError(
                    f"model.{key} is {value!r}: expected a number. A runner takes it from the data where the config "
                    "leaves it out"
                )
        assert num_classes is not None
        if not isinstance(data_preprocessor, nn.Module):
            data_preprocessor = MODELS.build({"type": SlicePreprocessor, **(data_preprocessor or {})})
        data_preprocessor = replace_mmseg(data_preprocessor, ignore_index)
        padded_with = getattr(data_preprocessor, "ignore_index", ignore_index)
        if padded_with != ignore_index:
            raise UserError(
                f"model.ignore_index is {ignore_index}, but model.data_preprocessor.ignore_index is {padded_with}: "
                "padding would be trained on. Set both alike"
            )
        super().__init__(data_preprocessor, init_cfg)
        self.num_classes = num_classes
        self.num_outputs = len(self.regions) or num_classes
        self.network, self.in_channels = _build_network(network, self.num_outputs, in_channels)
        members = [classes for _, classes, _ in self.regions]
        self.losses, self.loss_calls = build_losses(losses, self.num_outputs, num_classes, ignore_index, members)
        weights: Any = output_weights or getattr(self.network, "output_weights", (1.0,))
        self.output_weights = tuple(weights)
        self.size_divisor = size_divisor or int(getattr(self.network, "size_divisor", 1))
        self.predictor = {"slice_batch": slice_batch}
        self.ignore_index = ignore_index
        self._stages = complete(self, feature_info, "model.feature_info", check=True) if feature_info else []

    @property
    def feature_info(self) -> list[Stage]:
        """Stages of the network, shallow to deep, with paths from the segmentor; empty where they are not known."""
        own = [{**stage, "module": f"network.{stage['module']}"} for stage in told_by(self.network)]
        return self._stages or complete(self, own)

    def logits(self, inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """See :meth:`SegmentorBase.logits`."""
        padded, _ = self.pad(inputs)
        outputs = tuple(_fit(logits, padded, inputs) for logits in self.native_logits(padded))
        return outputs if len(outputs) > 1 else outputs[0]

    def native_logits(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs of the network at its own resolution, the main one first."""
        if self.in_channels is not None and inputs.shape[1] != self.in_channels:
            raise UserError(
                f"{type(self.network).__name__} takes {self.in_channels} channel(s) (model.in_channels), but the "
                f"images have {inputs.shape[1]}. Make the two agree in the config, or leave in_channels out"
            )
        outputs = outputs_of(self.network(inputs))
        for logits in outputs:
            if logits.shape[1] != self.num_outputs:
                raise UserError(
                    f"{type(self.network).__name__} gives {logits.shape[1]} channels, but {self._counted} is "
                    f"{self.num_outputs}. Make the two agree in the config"
                )
        return outputs

    def loss(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Losses of a batch: those of auxiliary outputs are named ``aux<i>.<name>``, those of one name are summed.

        In eval mode a network that gives its main output alone is measured on that.
        """
        padded, _ = self.pad(inputs)
        with batches_counted_together(self):
            outputs = self.native_logits(padded)
        if len(outputs) != len(self.output_weights) and (self.training or len(outputs) > 1):
            raise UserError(
                f"{type(self.network).__name__} gives {len(outputs)} outputs in training, but model.output_weights "
                f"has {len(self.output_weights)}: one weight for each output is needed"
            )
        labels = labels.long()
        values: dict[str, Tensor] = {}
        of_label: list[dict[str, Any]] = [{} for _ in self.losses]
        for index, (logits, weight) in enumerate(zip(outputs, self.output_weights, strict=False)):
            logits = _fit(logits.to(torch.promote_types(logits.dtype, torch.float32)), padded, inputs)
            for loss, call, shared in zip(self.losses, self.loss_calls, of_label, strict=True):
                name = f"aux{index}.{call.name}" if index else call.name
                value = (weight * call.weight) * call(loss, logits, labels, shared)
                values[name] = values[name] + value if name in values else value
        return values

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """See MMEngine's class."""
        if not losses:
            raise UserError("model.losses is empty: there is nothing to train on. Write losses=[dict(type=...)]")
        return parse_losses(self, losses)


def _fit(logits: Tensor, padded: Tensor, inputs: Tensor) -> Tensor:
    """Logits (N, C, h, w) of a padded input at the size of the input."""
    height, width = inputs.shape[-2:]
    return resize(logits, padded.shape[-2:])[..., :height, :width]


def _build_network(
    network: dict[str, Any] | nn.Module, num_outputs: int, in_channels: int | None
) -> tuple[nn.Module, int | None]:
    """The network, and the channels that it takes (None: not known)."""
    if isinstance(network, nn.Module):
        built, said = network, None
    else:
        constructor, inner = find_type(network, "model.network", "network"), network.get("backbone")
        known = {
            "num_classes": num_outputs,
            "classes": num_outputs,
            "out_channels": num_outputs,
            "in_channels": in_channels or (isinstance(inner, Mapping) and inner.get("in_channels")) or 1,
            "spatial_dims": 2,
        }
        taken = inspect.signature(constructor).parameters
        options = {key: value for key, value in {**known, **network}.items() if key in taken or key in network}
        arguments = {key: value for key, value in options.items() if key not in ("type", "_scope_")}
        check_arguments(constructor, arguments, "model.network")
        built, said = MODELS.build({**options, "type": constructor}), options.get("in_channels")
    if isinstance(built, BaseModel):
        raise UserError(
            f"model.network is a {type(built).__name__}, a whole model whose own losses and auxiliary heads would be "
            f"dropped. Write it in place of the Segmentor: model=dict(type={type(built).__name__!r}, ...)"
        )
    own = getattr(built, "in_channels", said)
    own = own if isinstance(own, int) else in_channels
    if in_channels is not None and own != in_channels:
        raise UserError(
            f"model.in_channels is {in_channels}, but {type(built).__name__} takes {own}: make the two agree, or leave "
            "one out"
        )
    return built, own
