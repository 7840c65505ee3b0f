"""Weights as a ``.safetensors`` file, and beside them, as JSON in its metadata, what a checkpoint's ``meta`` says."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medseg_kd.errors import UserError, first_line

_KEY = "medseg_kd"
INSTALL = "pip install safetensors"


def read_safetensors(path: str, device: Any = "cpu") -> dict[str, Any]:
    """A file as a checkpoint: ``state_dict``, and ``meta`` where :func:`write_safetensors` wrote it.

    Raises:
        UserError: The package is not installed, or the file is damaged.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise UserError(f"{path} cannot be read without the package safetensors. {INSTALL}") from error
    try:
        with safe_open(path, "pt", device=str(torch.device(device))) as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            meta = json.loads((file.metadata() or {}).get(_KEY, "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read as safetensors ({first_line(error)}): copy or export it again"
        ) from error
    return {"state_dict": weights, "meta": meta if isinstance(meta, dict) else {}}


def write_safetensors(path: str, weights: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write weights, and ``meta`` as JSON.

    Raises:
        UserError: The package is not installed, or JSON has no way to write a value.
    """
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise UserError(f"{path} cannot be written without the package safetensors. {INSTALL}") from error
    try:
        text = json.dumps(meta, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"the model's config cannot be written as JSON: {first_line(error)}") from error
    if json.loads(text) != _as_lists(meta):
        raise UserError("the model's config has keys that are no texts, which JSON cannot keep")
    # Shared memory is refused, and each weight is kept by itself.
    content = save({name: each.detach().cpu().clone() for name, each in weights.items()}, {"format": "pt", _KEY: text})
    Path(path).write_bytes(content)


def _as_lists(value: Any) -> Any:
    """Plain containers with lists for tuples, as JSON gives them back."""
    if isinstance(value, Mapping):
        return {key: _as_lists(each) for key, each in value.items()}
    return [_as_lists(each) for each in value] if isinstance(value, (list, tuple)) else value
