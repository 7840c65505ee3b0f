"""The segmentor: any network that maps slices to class logits, with its losses and its prediction of whole cases."""

import difflib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from medseg_kd.errors import UserError
from medseg_kd.models.padding import divisible_size, pad_to
from medseg_kd.models.preprocessor import SlicePreprocessor, set_labels
from medseg_kd.models.slice_batch import PROBE, batch_sizes, on_cpu, probe
from medseg_kd.registry import MODELS, MONAI, check_arguments


@MODELS.register_module()
class Segmentor(BaseModel):
    """Wraps a module that maps (N, 1, H, W) to logits (N, C, h, w): one of ours, MONAI's, or the user's own.

    The logits may be smaller than the input; they are resized bilinearly. In training the network may return a tuple
    of logits, the main ones first.

    Args:
        network: Config or module; ``monai.<Name>`` is a network of MONAI. ``num_classes`` (or ``out_channels``),
            ``in_channels=1`` and ``spatial_dims=2`` are filled in where its constructor takes them and the config does
            not say.
        num_classes: Classes with background.
        losses: Configs of losses called as ``loss(logits, label, ignore_index=...)`` with a ``loss_name``:
            MMSegmentation's or ours. None builds a segmentor that cannot be trained.
        output_weights: Weight of each output of the network in training, the main one first.
        size_divisor: The input is padded to a multiple of it; None asks the network (``size_divisor``, else 1).
        slice_batch: Slices of a case that are predicted together. None: on a GPU as many as its free memory holds,
            up to 64, by what the first few took; on the CPU 1 of 512x512, up to 8 of smaller ones. The prediction does
            not depend on it.
        ignore_index: Label of pixels that take no part.
        data_preprocessor: Config of :class:`SlicePreprocessor`; its defaults where it is left out.
    """

    def __init__(
        self,
        network: dict[str, Any] | nn.Module,
        num_classes: int,
        losses: Sequence[dict[str, Any]] | None = None,
        output_weights: Sequence[float] = (1.0,),
        size_divisor: int | None = None,
        slice_batch: int | None = None,
        ignore_index: int = 255,
        data_preprocessor: dict[str, Any] | nn.Module | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if not isinstance(data_preprocessor, nn.Module):
            data_preprocessor = MODELS.build({"type": SlicePreprocessor, **(data_preprocessor or {})})
        padded_with = getattr(data_preprocessor, "ignore_index", ignore_index)
        if padded_with != ignore_index:
            raise UserError(
                f"model.ignore_index is {ignore_index}, but model.data_preprocessor.ignore_index is {padded_with}: "
                "padding would be trained on. Set both alike"
            )
        super().__init__(data_preprocessor, init_cfg)
        self.network = _build_network(network, num_classes)
        self.num_classes = num_classes
        self.losses = nn.ModuleList(MODELS.build(dict(loss)) for loss in losses or ())
        self.output_weights = tuple(output_weights)
        self.size_divisor: int = size_divisor or _size_divisor(self.network)
        if slice_batch is not None and slice_batch < 1:
            raise UserError(f"model.slice_batch is {slice_batch}: expected at least 1, or None to choose it by memory")
        self.slice_batch = slice_batch
        self._fitting: dict[torch.Size, int] = {}
        self.ignore_index = ignore_index

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """Stages of the network, shallow to deep: ``module`` (path from the segmentor), ``channels``, ``reduction``.

        Empty for a network that does not tell.
        """
        own = getattr(self.network, "feature_info", [])
        return [{**stage, "module": f"network.{stage['module']}"} for stage in own]

    def forward(
        self,
        inputs: Any,
        data_samples: Any = None,
        mode: str = "tensor",
    ) -> Any:
        """Run the segmentor.

        Args:
            inputs: (N, 1, H, W); in mode ``predict`` also a list of volumes (S, 1, H, W).
            data_samples: A list with one ``SegDataSample`` for each slice or volume; needed in mode ``loss``.
            mode: ``tensor``, ``loss`` or ``predict``.

        Returns:
            ``tensor``: logits (N, C, H, W), or a tuple of them where the network gives auxiliary ones.
            ``loss``: name to scalar.
            ``predict``: the samples with ``pred_sem_seg``, uint8 (S, H, W) on the CPU (S = 1 for a slice).
        """
        if mode == "loss":
            return self.loss(inputs, data_samples)
        if mode == "predict":
            return self.predict(inputs, data_samples)
        if mode == "tensor":
            padded, _ = self.pad(inputs)
            outputs = tuple(
                _resize(logits, padded.shape[-2:])[..., : inputs.shape[-2], : inputs.shape[-1]]
                for logits in self.native_logits(padded)
            )
            return outputs if len(outputs) > 1 else outputs[0]
        raise ValueError(f"mode is {mode!r}, expected 'tensor', 'loss' or 'predict'")

    def native_logits(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs of the network at its own resolution, the main one first."""
        outputs = self.network(inputs)
        outputs = tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)
        for logits in outputs:
            if logits.shape[1] != self.num_classes:
                raise UserError(
                    f"{type(self.network).__name__} gives {logits.shape[1]} channels, but model.num_classes is "
                    f"{self.num_classes}. Make the two agree in the config"
                )
        return outputs

    def pad(
        self, inputs: Tensor, data_samples: list[SegDataSample] | None = None, divisor: int | None = None
    ) -> tuple[Tensor, list[SegDataSample] | None]:
        """Pad a batch on the right and at the bottom to a multiple of ``divisor`` (default: what the network needs).

        The image is padded with 0, the labels with ``ignore_index``.
        """
        height, width = inputs.shape[-2:]
        size = divisible_size((height, width), divisor or self.size_divisor)
        if size == (height, width):
            return inputs, data_samples
        if data_samples is not None:
            set_labels(data_samples, pad_to(stack_labels(data_samples), size, self.ignore_index))
        return pad_to(inputs, size, 0), data_samples

    def loss(self, inputs: Tensor, data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """Losses of a batch: those of auxiliary outputs are named ``aux<i>.<name>``, those of one name are summed."""
        inputs, _ = self.pad(inputs, data_samples)
        label = stack_labels(data_samples)
        outputs = self.native_logits(inputs)
        if len(outputs) != len(self.output_weights):
            raise UserError(
                f"{type(self.network).__name__} gives {len(outputs)} outputs in training, but model.output_weights "
                f"has {len(self.output_weights)}: one weight for each output is needed"
            )
        values: dict[str, Tensor] = {}
        for index, (logits, weight) in enumerate(zip(outputs, self.output_weights, strict=True)):
            logits = _resize(logits.float(), label.shape[-2:])
            for loss in self.losses:
                name = f"aux{index}.{loss.loss_name}" if index else str(loss.loss_name)
                value = weight * loss(logits, label, ignore_index=self.ignore_index)
                values[name] = values[name] + value if name in values else value
        return values

    def predict(
        self, inputs: Tensor | list[Tensor], data_samples: list[SegDataSample] | None = None
    ) -> list[SegDataSample]:
        """Predict slices (N, 1, H, W) or a list of volumes (S, 1, H, W); see :meth:`forward`."""
        volumes = inputs if isinstance(inputs, (list, tuple)) else inputs[:, None]
        samples = data_samples or [SegDataSample() for _ in volumes]
        for volume, sample in zip(volumes, samples, strict=True):
            sample.pred_sem_seg = PixelData(data=self.predict_volume(volume))
        return samples

    @torch.no_grad()
    def predict_volume(self, volume: Tensor) -> Tensor:
        """Label map of a case.

        Args:
            volume: (S, 1, H, W) slices on any device.

        Returns:
            (S, H, W) uint8 on the CPU, on the grid that the case came on.
        """
        device = next(self.parameters()).device
        slices = volume.split(self._batches(volume, device))
        return torch.cat([self._predict_slices(batch, device) for batch in slices])

    def _batches(self, volume: Tensor, device: torch.device) -> int | list[int]:
        """Sizes of the slice batches of a case; the first case of a size on a GPU is what they are measured on."""
        if self.slice_batch is not None:
            return self.slice_batch
        size = volume.shape[-2:]
        if device.type != "cuda":
            return on_cpu(size.numel())
        if size not in self._fitting:
            few = volume[:PROBE]
            self._fitting[size] = probe(device, lambda: self._predict_slices(few, device), len(few))
        return batch_sizes(len(volume), self._fitting[size])

    def _predict_slices(self, slices: Tensor, device: torch.device) -> Tensor:
        """Labels (n, H, W) uint8 on the CPU of slices (n, 1, H, W)."""
        slices = slices.to(device, torch.float32, non_blocking=True)
        logits = self(self.data_preprocessor.resize(slices))
        logits = logits[0] if isinstance(logits, tuple) else logits
        return self.data_preprocessor.labels(logits, slices.shape[-2:]).cpu()


def _size_divisor(network: nn.Module) -> int:
    """What a network says that its input's height and width must be a multiple of."""
    return int(getattr(network, "size_divisor", 1))


def stack_labels(data_samples: list[SegDataSample]) -> Tensor:
    """Labels of a batch, (N, H, W) int64."""
    return torch.cat([sample.gt_sem_seg.data for sample in data_samples]).long()


def _resize(logits: Tensor, size: torch.Size) -> Tensor:
    """Bilinear resize of (N, C, h, w) to ``size``."""
    if logits.shape[-2:] == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def _build_network(network: dict[str, Any] | nn.Module, num_classes: int) -> nn.Module:
    """Build the network; what every slice network is given is filled in where its constructor takes it."""
    if isinstance(network, nn.Module):
        return network
    constructor = _constructor(network)
    accepted = inspect.signature(constructor).parameters
    known = {"num_classes": num_classes, "out_channels": num_classes, "in_channels": 1, "spatial_dims": 2}
    options = {key: value for key, value in known.items() if key in accepted}
    options.update({key: value for key, value in network.items() if key not in ("type", "_scope_")})
    check_arguments(constructor, options, "model.network")
    return MODELS.build({**options, **network})


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
        near = difflib.get_close_matches(str(kind).removeprefix("monai."), registry.module_dict, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "name a class, or a registered one by its name"
        raise UserError(f"model.network.type is {kind!r}, which is no network; {hint}")
    return constructor
