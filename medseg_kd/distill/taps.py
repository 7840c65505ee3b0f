"""What can be tapped in a model: its modules that run in a forward pass, with the shapes of what they return."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Tap:
    """A module that ran."""

    source: str
    """Its path from the model, what a recorder takes as ``source``."""
    kind: str
    stages: dict[int | None, int]
    """``data_idx`` of its outputs that are stages to their index in the model's ``feature_info``, shallow to deep."""
    outputs: list[dict[int | None, str]] = field(default_factory=list)
    """What each call returned: ``data_idx`` to shape, for a single tensor None to shape."""


@torch.no_grad()
def find_taps(model: nn.Module, inputs: Tensor) -> list[Tap]:
    """Run a segmentor once, in the mode that it is in, on ``inputs`` (N, C, H, W), and note what its modules return.

    The modules that ran are in the order of the model, the calls of each in that of a recorder's ``record_idx``.
    Modules that return no tensor are left out.
    """
    stages: dict[str, dict[int | None, int]] = {}
    for index, stage in enumerate(getattr(model, "feature_info", None) or ()):
        stages.setdefault(stage["module"], {})[stage.get("data_idx")] = index
    modules = [(source, module) for source, module in model.named_modules() if source]
    taps = {id(module): Tap(source, type(module).__name__, stages.get(source, {})) for source, module in modules}

    def record(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        if shapes := _shapes(output):
            taps[id(module)].outputs.append(shapes)

    hooks = [module.register_forward_hook(record) for _, module in modules]
    try:
        model(inputs, mode="tensor")
    finally:
        for hook in hooks:
            hook.remove()
    return [tap for tap in taps.values() if tap.outputs]


def _shapes(output: Any) -> dict[int | None, str]:
    """``data_idx`` to shape of what a module returned."""
    if isinstance(output, Tensor):
        return {None: str(tuple(output.shape))}
    if isinstance(output, (list, tuple)):
        return {index: str(tuple(item.shape)) for index, item in enumerate(output) if isinstance(item, Tensor)}
    return {}
