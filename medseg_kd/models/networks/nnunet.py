"""nnU-Net's own network, as its plans describe it."""

import importlib
import re
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import torch.nn
from mmengine.model import BaseModule
from torch import Tensor, nn

from medseg_kd.errors import UserError, first_line
from medseg_kd.models.networks.input_check import check_input
from medseg_kd.nnunet_files import read_plan
from medseg_kd.registry import MODELS

_PACKAGE = "dynamic_network_architectures"
_NAME = re.compile(r"(?:[A-Za-z]\w*\.)+[A-Za-z]\w*")


@MODELS.register_module()
class NnUNet(BaseModule):
    """The network of a 2D configuration of nnU-Net v2, built by its package ``dynamic-network-architectures``.

    Plans are data: what they name is a class of ``torch.nn`` or of that package, and nothing else is imported.

    Args:
        plans: ``plans.json`` or ``nnUNetPlans.json``.
        configuration: Of the plans.
        architecture: What the plans say of the network, in place of a file; a run writes it into its checkpoints, which
            then need no plans.
        deep_supervision: In training, give the logits of all decoder stages but the deepest, the finest first. Their
            weights are :attr:`output_weights`, those of nnU-Net.

    Raises:
        UserError: The plans cannot be read, name anything else, or their network takes volumes.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 1,
        plans: str | None = None,
        configuration: str = "2d",
        architecture: Mapping[str, Any] | None = None,
        deep_supervision: bool = True,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if (plans is None) == (architecture is None):
            raise UserError("NnUNet needs plans='.../nnUNetPlans.json', or the architecture that a checkpoint tells")
        if architecture is None:
            architecture = read_architecture(str(plans), configuration)
        self.in_channels = in_channels
        self.unet, self.feature_info, reductions = _build(architecture, in_channels, num_classes)
        self.size_divisor = max(reductions)
        if any(self.size_divisor % reduction for reduction in reductions):
            raise UserError(f"NnUNet: strides of {reductions} in all: expected one that the other divides")
        outputs = len(self.feature_info) - 1 if deep_supervision else 1
        shares = [0.5**index * (index < max(1, outputs - 1)) for index in range(outputs)]
        self.output_weights = tuple(share / sum(shares) for share in shares)
        self.deep_supervision = deep_supervision

    @staticmethod
    def settle(config: MutableMapping[str, Any]) -> None:
        """Put the architecture into a config in place of the plans that it names."""
        plans, configuration = config.pop("plans", None), config.pop("configuration", "2d")
        if plans is not None:
            config["architecture"] = dict(read_architecture(plans, configuration))

    def train(self, mode: bool = True) -> "NnUNet":
        """Give all outputs in training, one in evaluation."""
        super().train(mode)
        self.unet.decoder.deep_supervision = mode and self.deep_supervision
        return self

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Map (N, C, H, W), both multiples of ``size_divisor``, to logits (N, classes, H, W); to all in training."""
        check_input(self, x)
        logits = self.unet(x)
        return tuple(logits) if isinstance(logits, list) else logits


def read_architecture(plans: str, configuration: str = "2d") -> Mapping[str, Any]:
    """What a plans file says of the network of a 2D configuration."""
    plan = read_plan(Path(plans), configuration)
    plan.check_2d()
    return plan.architecture


def _build(
    architecture: Mapping[str, Any], in_channels: int, num_classes: int
) -> tuple[Any, list[dict[str, Any]], list[int]]:
    """A U-Net of the package, the stages of its encoder, and its strides in all along both axes."""
    arguments, imported = architecture.get("arch_kwargs"), architecture.get("_kw_requires_import") or []
    named = isinstance(imported, (list, tuple)) and all(isinstance(key, str) for key in imported)
    if not (named and isinstance(arguments, Mapping)):
        raise UserError(
            f"NnUNet: arch_kwargs of the plans is {arguments!r}: expected a dict, and names of what it imports"
        )
    found = {key: _class(arguments[key]) for key in imported if arguments.get(key) is not None}
    name = architecture.get("network_class_name")
    kind = _class(name)
    try:
        network: Any = kind(input_channels=in_channels, num_classes=num_classes, **{**arguments, **found})
        network.apply(network.initialize)
        reductions, stages = [1, 1], []
        for index, (stride, width) in enumerate(
            zip(network.encoder.strides, network.encoder.output_channels, strict=True)
        ):
            reductions = [reduction * step for reduction, step in zip(reductions, stride, strict=True)]
            stages.append({"module": f"unet.encoder.stages.{index}", "channels": width, "reduction": max(reductions)})
        if min(reductions) < 1 or not hasattr(network.decoder, "deep_supervision"):
            raise ValueError("it is no U-Net of slices")
    # The package raises what it likes for arguments that it does not take.
    except Exception as error:
        raise UserError(f"NnUNet: {name} cannot be built as the plans say ({first_line(error)})") from error
    return network, stages, reductions


def _class(name: Any) -> type[nn.Module]:
    """The class of ``torch.nn`` or of nnU-Net's package of networks that plans name; nothing else is imported."""
    parts = name.split(".") if isinstance(name, str) and _NAME.fullmatch(name) else [""]
    found: Any = None
    if parts[:2] == ["torch", "nn"]:
        found = getattr(torch.nn, parts[-1], None)
    elif parts[0] == _PACKAGE:
        try:
            found = getattr(importlib.import_module(".".join(parts[:-1])), parts[-1], None)
        except ImportError as error:
            told = "pip install medseg_kd[nnunet]" if error.name == _PACKAGE else first_line(error)
            raise UserError(f"NnUNet: {name} needs the package dynamic-network-architectures: {told}") from error
    if (
        isinstance(found, type)
        and issubclass(found, nn.Module)
        and found.__module__.startswith(("torch.nn.", _PACKAGE))
    ):
        return found
    raise UserError(
        f"NnUNet: the plans name {name!r}: expected a class of torch.nn or of {_PACKAGE}; nothing else is imported"
    )
