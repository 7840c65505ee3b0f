"""Plain containers in place of MMEngine's objects, so that a checkpoint opens with ``weights_only=True``."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer


def to_plain(value: Any, where: str = "checkpoint") -> Any:
    """Tensors to the CPU, NumPy values and history buffers to lists and numbers, mappings to ``dict``.

    Raises:
        TypeError: A value of another kind; the message says at which key.
    """
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, HistoryBuffer):
        log, count = value.data
        return {"log": log.tolist(), "count": count.tolist(), "max_length": value.max_length}
    if isinstance(value, Mapping):
        return {key: to_plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(to_plain(item, f"{where}[{index}]") for index, item in enumerate(value))
    raise TypeError(f"{where} is a {type(value).__name__}: a checkpoint holds tensors and plain containers only")


def message_hub_from_plain(state: Mapping[str, Any]) -> dict[str, Any]:
    """Undo :func:`to_plain` for the state of MMEngine's message hub."""
    scalars = {
        key: HistoryBuffer(buffer["log"], buffer["count"], buffer["max_length"])
        for key, buffer in state["log_scalars"].items()
    }
    return {**state, "log_scalars": scalars}
