"""What a checkpoint file must hold, checked before anything of it is used."""

import os
import zipfile
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medseg_kd.errors import UserError, some

_WEIGHTS = ("state_dict", "connectors", "distill_weights", "ema_state_dict")
_SHOWN_KEYS = 8
_FOLDER = 0x10


def check_archive(path: str | os.PathLike) -> None:
    """Compare the content of a file with the checksums that ``torch.save`` put into it, which PyTorch does not.

    PyTorch's format before the zip file has none.

    Raises:
        BadZipFile: The content is not what was written.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        if sum(record.file_size for record in archive.infolist()) > os.path.getsize(path):
            raise zipfile.BadZipFile("its records claim more bytes than the file has")
        if any(record.is_dir() or record.external_attr & _FOLDER for record in archive.infolist()):
            raise zipfile.BadZipFile("a record is marked as a folder, whose content PyTorch would not read")
        if (record := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"wrong checksum of {record}")


def check_mapping(checkpoint: Any, name: str) -> None:
    """Refuse what is neither a checkpoint nor a ``state_dict`` with text as names.

    Raises:
        UserError: It names the file.
    """
    weights = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, Mapping) else checkpoint
    if not isinstance(weights, Mapping):
        where = " as its state_dict" if weights is not checkpoint else ""
        raise UserError(f"{name} holds a {type(weights).__name__}{where}, expected a checkpoint or a state_dict")
    if odd := [key for key in weights if not isinstance(key, str)]:
        raise UserError(
            f"{name} holds {len(odd)} entries whose names are no text ({', '.join(map(repr, odd[:_SHOWN_KEYS]))}), "
            "expected a checkpoint or a state_dict"
        )


def check_content(checkpoint: Mapping[str, Any], name: str) -> None:
    """Refuse tensors that are not dense, and a ``meta`` that is no mapping.

    Args:
        checkpoint: With its weights as ``state_dict``.
        name: Of the file, for messages.

    Raises:
        UserError: It names the file and the weights.
    """
    if not isinstance(checkpoint.get("meta", {}), Mapping):
        raise UserError(f"{name}: meta is a {type(checkpoint['meta']).__name__}, expected a mapping of names to values")
    for part in _WEIGHTS:
        weights = checkpoint.get(part, {})
        if not isinstance(weights, Mapping):
            raise UserError(f"{name}: {part} is a {type(weights).__name__}, expected a mapping of names to tensors")
        tensors = {f"{part}.{key}": value for key, value in weights.items() if isinstance(value, Tensor)}
        if odd := [key for key, value in tensors.items() if not _is_dense(value)]:
            raise UserError(
                f"{name}: {some(odd, _SHOWN_KEYS)}: sparse, quantized or empty of numbers, expected a dense tensor"
            )


def check_finite(weights: Mapping[str, Any], own: Mapping[str, Tensor], name: str) -> None:
    """Refuse weights with NaN or infinite numbers, but where the model has such from the start (a mask).

    Args:
        weights: Name to tensor, as given.
        own: Those of the model.
        name: Of the file, for messages.

    Raises:
        UserError: It names the file and the weights.
    """
    odd = [
        key
        for key, value in weights.items()
        if isinstance(value, Tensor) and not _is_finite(value) and (key not in own or _is_finite(own[key]))
    ]
    if odd:
        raise UserError(
            f"{name}: NaN or infinite numbers in {some(odd, _SHOWN_KEYS)}. The training that wrote the checkpoint had "
            "diverged: take an earlier one, or train again with a lower learning rate"
        )


def without_preprocessor(weights: Mapping[str, Any], module: nn.Module, source: str) -> dict[str, Any]:
    """Weights without the ``data_preprocessor.mean`` and ``std`` that a module has as settings."""
    preprocessor = getattr(module, "data_preprocessor", None)
    own = dict(zip(("mean", "std"), getattr(preprocessor, "values", ()), strict=False))
    for name, value in own.items():
        given = weights.get(f"data_preprocessor.{name}")
        if isinstance(given, Tensor) and (value is None or not torch.allclose(given.flatten(), torch.tensor(value))):
            raise UserError(
                f"{source} was trained on images that its data_preprocessor scaled with {name}="
                f"{given.flatten().tolist()}, that of the config has {name}={value}: make the two agree"
            )
    return {key: value for key, value in weights.items() if key.removeprefix("data_preprocessor.") not in own}


def _is_dense(value: Tensor) -> bool:
    return value.layout is torch.strided and not (value.is_quantized or value.is_nested or value.is_meta)


def _is_finite(value: Tensor) -> bool:
    """Whether all numbers are; those of a dimension that repeats them are looked at once."""
    if not (value.is_floating_point() or value.is_complex()) or not value.numel() or value.is_meta:
        return True
    stored = value[tuple(0 if step == 0 else slice(None) for step in value.stride())]
    return bool(torch.isfinite(stored.float() if stored.element_size() == 1 else stored).all())
