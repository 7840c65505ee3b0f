"""The segmentor: any network that maps slices to class logits, with its losses."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.model import BaseModel
from torch import Tensor, nn

from medseg_kd.errors import UserError, did_you_mean
from medseg_kd.models.base import SegmentorBase
from medseg_kd.models.preprocessor import SlicePreprocessor, replace_mmseg
from medseg_kd.models.resizing import resize
from medseg_kd.registry import MODELS, MONAI, check_arguments


@MODELS.register_module()
class Segmentor(SegmentorBase, BaseModel):
    """Wraps a module that maps (N, C, H, W) to logits (N, classes, h, w): one of ours, MONAI's, or the user's own.

    The logits may be smaller than the input; they are resized bilinearly. In training the network may return a tuple
    of logits, the main ones first.

    Args:
        network: Config or module; ``monai.<Name>`` is a network of MONAI. ``num_classes`` (or ``out_channels``),
            ``in_channels`` and ``spatial_dims=2`` are filled in where its constructor takes them and the config does
            not say.
        num_classes: Classes with background. The runner takes them from the data where a config does not say.
        losses: Configs of losses called as ``loss(logits, label, ignore_index=...)`` with a ``loss_name``:
            MMSegmentation's or ours. None builds a segmentor that cannot be trained.
        output_weights: Weight of each output of the network in training, the main one first.
        in_channels: Channels of the input; None: what the network says, else 1. The runner takes them from the data
            where a config does not say.
        size_divisor: The input is padded to a multiple of it; None asks the network (``size_divisor``, else 1).
        slice_batch: See :class:`~medseg_kd.inference.CasePredictor`.
        ignore_index: Label of pixels that take no part.
        data_preprocessor: Config of :class:`SlicePreprocessor`; its defaults where it is left out.
        num_outputs: Channels of the network's output; None: one for each class.
    """

    _counted = "model.num_classes"

    def __init__(
        self,
        network: dict[str, Any] | nn.Module,
        num_classes: int | None = None,
        losses: Sequence[dict[str, Any]] | None = None,
        output_weights: Sequence[float] = (1.0,),
        in_channels: int | None = None,
        size_divisor: int | None = None,
        slice_batch: int | None = None,
        ignore_index: int = 255,
        data_preprocessor: dict[str, Any] | nn.Module | None = None,
        init_cfg: dict | list[dict] | None = None,
        num_outputs: int | None = None,
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
        self.num_outputs = num_outputs or num_classes
        self.network, self.in_channels = _build_network(network, self.num_outputs, in_channels)
        self.losses = nn.ModuleList(MODELS.build(dict(loss)) for loss in losses or ())
        self.output_weights = tuple(output_weights)
        self.size_divisor = size_divisor or int(getattr(self.network, "size_divisor", 1))
        self.predictor = {"slice_batch": slice_batch}
        self.ignore_index = ignore_index

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """Stages of the network, shallow to deep: ``module`` (path from the segmentor), ``channels``, ``reduction``.

        Empty for a network that does not tell.
        """
        own = getattr(self.network, "feature_info", [])
        return [{**stage, "module": f"network.{stage['module']}"} for stage in own]

    def logits(self, inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """See :meth:`SegmentorBase.logits`."""
        padded, _ = self.pad(inputs)
        outputs = tuple(
            resize(logits, padded.shape[-2:])[..., : inputs.shape[-2], : inputs.shape[-1]]
            for logits in self.native_logits(padded)
        )
        return outputs if len(outputs) > 1 else outputs[0]

    def native_logits(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs of the network at its own resolution, the main one first."""
        if self.in_channels is not None and inputs.shape[1] != self.in_channels:
            raise UserError(
                f"{type(self.network).__name__} takes {self.in_channels} channel(s) (model.in_channels), but the "
                f"images have {inputs.shape[1]}. Make the two agree in the config, or leave in_channels out"
            )
        outputs = self.network(inputs)
        outputs = tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)
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
        inputs, padded = self.pad(inputs, labels)
        label = (labels if padded is None else padded).long()
        outputs = self.native_logits(inputs)
        if len(outputs) != len(self.output_weights) and (self.training or len(outputs) > 1):
            raise UserError(
                f"{type(self.network).__name__} gives {len(outputs)} outputs in training, but model.output_weights "
                f"has {len(self.output_weights)}: one weight for each output is needed"
            )
        values: dict[str, Tensor] = {}
        for index, (logits, weight) in enumerate(zip(outputs, self.output_weights, strict=False)):
            logits = resize(logits.float(), label.shape[-2:])
            for loss in self.losses:
                name = f"aux{index}.{loss.loss_name}" if index else str(loss.loss_name)
                value = weight * loss(logits, label, ignore_index=self.ignore_index)
                values[name] = values[name] + value if name in values else value
        return values


def _build_network(
    network: dict[str, Any] | nn.Module, num_outputs: int, in_channels: int | None
) -> tuple[nn.Module, int | None]:
    """The network, and the channels that it takes (None: not known).

    What every slice network is given is filled in where its constructor takes it.
    """
    if isinstance(network, nn.Module):
        built, said = network, None
    else:
        constructor = _constructor(network)
        accepted = inspect.signature(constructor).parameters
        known = {
            "num_classes": num_outputs,
            "out_channels": num_outputs,
            "in_channels": in_channels or _said(network) or 1,
            "spatial_dims": 2,
        }
        options = {key: value for key, value in known.items() if key in accepted}
        options.update({key: value for key, value in network.items() if key not in ("type", "_scope_")})
        check_arguments(constructor, options, "model.network")
        built, said = MODELS.build({**options, **network}), options.get("in_channels")
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


def _said(network: dict[str, Any]) -> int | None:
    """Input channels that a network's config gives to its backbone."""
    return (network.get("backbone") or {}).get("in_channels")


def _constructor(network: dict[str, Any]) -> Callable[..., nn.Module]:
    """What ``model.network.type`` names.

    Raises:
        UserError: It names nothing.
    """
    kind = network.get("type")
    if callable(kind):
        return kind
    try:
        constructor = MODELS.get(kind) if kind else None
    except RuntimeError:
        constructor = None
    if constructor is None:
        registry = MONAI if str(kind).startswith("monai.") else MODELS
        otherwise = "; name a class, or a registered one by its name"
        hint = did_you_mean(str(kind).removeprefix("monai."), registry.module_dict, otherwise)
        raise UserError(f"model.network.type is {kind!r}, which is no network{hint}")
    return constructor
