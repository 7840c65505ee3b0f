"""Checkpoint files of other projects: their weights without what training code puts around them."""

import os
import zipfile
import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medseg_kd.errors import UserError
from medseg_kd.models.checkpoint import read_unchecked

_DAMAGED = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)
_WRAPPERS = ("state_dict", "model", "model_state_dict", "net", "network_weights")


def read_foreign(path: str | os.PathLike) -> dict[str, Any]:
    """Read a checkpoint of another project.

    Args:
        path: What ``torch.save`` wrote, in any of its formats but TorchScript and tar, or an ``.npz`` of arrays.

    Returns:
        Its content; a bare ``state_dict``, and an ``.npz``, as ``{"state_dict": ...}``. Objects of other classes than
        tensors and plain containers are :class:`~medseg_kd.models.placeholders.Placeholder`.

    Raises:
        UserError: The file is missing or damaged, or what it holds goes beyond placeholders (it calls the operating
            system, or fills a container class of its own).
    """
    name = os.fspath(path)
    if name.endswith(".npz"):
        return {"state_dict": read_npz(name)}
    return read_unchecked(name)


def read_npz(path: str | os.PathLike) -> dict[str, Tensor]:
    """The arrays of an ``.npz`` as tensors; no code in it is run.

    Raises:
        UserError: The file is not there or damaged, or holds other things than numbers.
    """
    name = os.fspath(path)
    if not os.path.isfile(name):
        raise UserError(f"checkpoint not found: {name}")
    try:
        with np.load(name, allow_pickle=False) as arrays:
            return {key: torch.from_numpy(arrays[key]) for key in arrays.files}
    except (*_DAMAGED, TypeError, AttributeError, KeyError) as error:
        raise UserError(
            f"{name} cannot be read as an .npz of numeric arrays ({error}): download or copy it again"
        ) from error


def weights_of(checkpoint: dict[str, Any], source: str) -> dict[str, Tensor]:
    """The weights of a checkpoint, without the wrappers that training code puts around them."""
    inner: Any = checkpoint
    while wrapper := next((name for name in _WRAPPERS if isinstance(inner.get(name), dict)), None):
        inner = inner[wrapper]
    weights = {str(key).removeprefix("module."): value for key, value in inner.items() if isinstance(value, Tensor)}
    if not weights:
        raise UserError(f"{source} holds no weights: its keys are {', '.join(map(str, list(inner)[:8])) or 'none'}")
    return weights
