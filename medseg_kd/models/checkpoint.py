"""Checkpoint files: safe reading, strict loading, atomic writing, finding a run's last one.

A checkpoint holds tensors and plain containers only, so that ``torch.load(path, weights_only=True)`` opens it without
an allow-list. MMEngine's own loaders fall back to an unpickling load; importing this module replaces them for every
scheme.
"""

import os
import pickle
import re
import struct
import urllib.error
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine.logging import print_log
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from medseg_kd.errors import UserError, WriteError, first_line, some
from medseg_kd.files import sync_folder, whole_file
from medseg_kd.models.checkpoint_address import address_of
from medseg_kd.models.checkpoint_content import (
    check_archive,
    check_content,
    check_finite,
    check_mapping,
    without_preprocessor,
)
from medseg_kd.models.placeholders import placeholders
from medseg_kd.models.safetensors_file import read_safetensors

_NUMBERED = re.compile(r"^(iter|epoch)_(\d+)\.pth$")
_LONGEST_PATH = 4096
_SHOWN_KEYS = 4
# What PyTorch raises on damaged content; its restricted unpickler checks little before it works.
_DAMAGED = (
    *(OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)


def read_checkpoint(path: str | os.PathLike, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint without running any code in it; objects beside its weights are placeholders.

    Args:
        path: A file, an ``http(s)://`` address, ``torchvision://NAME`` or ``open-mmlab://NAME`` (downloaded once).
        map_location: As in :func:`torch.load`.

    Returns:
        The checkpoint. A bare ``state_dict`` comes back as ``{"state_dict": ...}``.

    Raises:
        UserError: The file is missing or damaged, its weights are no dense tensors, or what it holds goes beyond
            placeholders (it calls the operating system, or fills a container class of its own).
    """
    checkpoint = read_unchecked(path, map_location)
    check_content(checkpoint, os.fspath(path))
    return checkpoint


def read_unchecked(path: str | os.PathLike, map_location: Any = "cpu") -> dict[str, Any]:
    """As :func:`read_checkpoint`, for files of others: its weights, and what else it holds, may be anything."""
    name = os.fspath(path)
    address = address_of(name) if "://" in name else None
    if address is None and not os.path.isfile(name):
        raise UserError(f"checkpoint not found: {name} is no file. Correct the path, or train what writes it first")
    if address is None and name.endswith(".safetensors"):
        return read_safetensors(name, map_location)
    options: dict[str, Any] = {"map_location": map_location, "weights_only": True}
    try:
        if address is None:
            check_archive(name)
        checkpoint = _load_inert(name, address, options)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{name} is not a checkpoint of tensors and inert objects, and opening it could run code hidden in "
            "it, so it was not opened. If you trust where it comes from, load it yourself with "
            "torch.load(..., weights_only=False) and save only its state_dict again.\n"
            f"PyTorch says: {first_line(error)}"
        ) from error
    except urllib.error.URLError as error:
        raise UserError(
            f"{name} cannot be downloaded ({first_line(error)}). Download it elsewhere and name the file instead"
        ) from error
    except _DAMAGED as error:
        raise UserError(
            f"{name} cannot be read as a checkpoint ({first_line(error)}). It is damaged or only partly "
            "copied: copy it again, or use an earlier iter_<N>.pth of the same run."
        ) from error
    check_mapping(checkpoint, name)
    return dict(checkpoint) if "state_dict" in checkpoint else {"state_dict": dict(checkpoint)}


def _load_inert(name: str, address: str | None, options: dict[str, Any]) -> Any:
    """The content of a file or of what an address gives, with placeholders where it holds other objects."""
    try:
        return torch.hub.load_state_dict_from_url(address, **options) if address else torch.load(name, **options)
    except pickle.UnpicklingError:
        file = Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(address).path).name) if address else name
        with placeholders(file):
            return torch.load(file, **options)


@CheckpointLoader.register_scheme(prefixes=list(CheckpointLoader._schemes), force=True)
def _load(filename: str, map_location: Any = None, **_: Any) -> dict[str, Any]:
    """The loader that MMEngine calls for every scheme."""
    return read_checkpoint(filename, map_location=map_location or "cpu")


def write_checkpoint(checkpoint: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Write a checkpoint, whole or not at all; when this returns it is on the disk.

    Raises:
        WriteError: The disk is full or the folder cannot be written; what was there before stays.
    """
    path = Path(path)
    try:
        with whole_file(path) as draft, draft.open("wb") as file:
            torch.save(dict(checkpoint), file)
        sync_folder(path.parent)
    except RuntimeError as error:  # PyTorch's
        raise WriteError(f"cannot write {path}: {error}. Free some disk space or choose another --work-dir") from error


def checkpoints_of(run: str | os.PathLike) -> list[Path]:
    """The checkpoints of a run folder, first the one that training goes on from.

    The file ``last_checkpoint`` names that one, so that a leftover of a longer run in the same folder is not taken for
    it; of that name only the last part counts. The others follow by their number, the largest first.
    """
    run = Path(run)
    numbers = {path: match for path in run.glob("*.pth") if (match := _NUMBERED.match(path.name)) and path.is_file()}
    found = sorted(numbers, key=lambda path: (numbers[path][1] == "iter", int(numbers[path][2])), reverse=True)
    pointer = run / "last_checkpoint"
    if pointer.is_file():
        with pointer.open("rb") as file:
            name = Path(os.fsdecode(file.read(_LONGEST_PATH)).strip()).name
        named = [path for path in run.iterdir() if path.name == name and path.is_file()]
        found = [*named, *(path for path in found if path not in named)]
    return found


def last_checkpoint(run: str | os.PathLike) -> Path | None:
    """The checkpoint that a run saved last, see :func:`checkpoints_of`, or None."""
    return next(iter(checkpoints_of(run)), None)


def last_whole_checkpoint(run: str | os.PathLike) -> tuple[Path | None, list[str]]:
    """The first of :func:`checkpoints_of` that can be read, or None where there is no checkpoint.

    Returns it, and what is wrong with those before it.

    Raises:
        UserError: There are checkpoints, and none can be read.
    """
    damaged = []
    for path in checkpoints_of(run):
        try:
            read_checkpoint(path)
        except UserError as error:
            damaged.append(str(error))
        else:
            return path, damaged
    if damaged:
        raise UserError(
            f"{run} holds no checkpoint that training could go on from:\n  "
            + "\n  ".join(damaged)
            + "\nTo start anew, train without --resume"
        )
    return None, []


def best_checkpoint(run: str | os.PathLike, metric: str = "*") -> Path | None:
    """The ``best_<metric>_iter_<N>.pth``, or ``_epoch_<N>``, of a run folder; of several the newest, or None."""
    found = [
        path for unit in ("iter", "epoch") for path in Path(run).glob(f"best_{metric.replace('/', '_')}_{unit}_*.pth")
    ]
    return max(found, key=lambda path: path.stat().st_mtime) if found else None


def resolve_checkpoint(run_or_file: str | os.PathLike) -> Path:
    """Turn a run folder into its last checkpoint; a file stays as it is.

    Raises:
        UserError: Neither is there; the message names the command that trains the run.
    """
    path = Path(run_or_file)
    if path.is_file():
        return path
    if found := last_checkpoint(path):
        return found
    folder = path.parent if path.suffix == ".pth" else path
    of_fold = folder.name.startswith("fold_")
    run, fold = (folder.parent.name, f" --fold {folder.name[5:]}") if of_fold else (folder.name, "")
    configs = sorted(Path("configs").rglob(f"{run}.py"))
    config = configs[0].as_posix() if configs else f"<the config {run}.py>"
    what = "holds no iter_<N>.pth" if path.is_dir() else "is not there"
    raise UserError(
        f"checkpoint {path} {what}. Train it first:\n    python train.py {config}{fold}\n"
        "or name another run folder or checkpoint file"
    )


def load_weights(module: nn.Module, state_dict: Mapping[str, Any], source: str) -> None:
    """Load weights, all of them and nothing else.

    What may differ: an auxiliary head may be absent (:func:`check_weights`); what a part of the module names in its
    ``obsolete_weights`` is left out, with a line in the log.

    Args:
        module: Receives the weights.
        state_dict: Name to tensor; a ``module.`` prefix (data-parallel wrappers) is dropped, as are the mean and
            deviation of a preprocessor, which have to be those of the module's.
        source: Where the weights come from, for messages.

    Raises:
        UserError: A key is missing, left over, or of another shape or type; all are counted,
            and four of each kind named. Or numbers are not finite.
    """
    given = {key.removeprefix("module.") if isinstance(key, str) else key: value for key, value in state_dict.items()}
    given = without_preprocessor(given, module, source)
    obsolete = given.keys() & {
        f"{place}.{name}".removeprefix(".")
        for place, part in module.named_modules()
        for name in getattr(part, "obsolete_weights", ())
    }
    if obsolete:
        given = {key: value for key, value in given.items() if key not in obsolete}
        print_log(f"{source}: left out {len(obsolete)} weights of an earlier version that no output used", "current")
    check_weights(module, given, f"{source} does not fit {type(module).__name__}")
    check_finite(given, module.state_dict(), source)
    if nn.Module.load_state_dict(module, given, strict=False).missing_keys:  # overrides of others may return nothing
        print_log(f"{source} has no auxiliary head: it starts anew, should training go on", "current")


def check_weights(module: nn.Module, weights: Mapping[str, Any], complaint: str) -> None:
    """Refuse weights whose names, shapes and types are not the module's, which may lie on the meta device.

    An ``auxiliary_head``, which only training uses, may be absent as a whole: others train the same network without.
    The part that owns a weight may take other shapes than its own: it says so in ``takes_shape(name, shape)``. A number
    may be of another precision, but not of another kind: PyTorch would drop imaginary parts and fractions in silence.

    Raises:
        UserError: As for :func:`load_weights`; the message begins with ``complaint``.
    """
    wanted = module.state_dict()
    auxiliary = {key for key in wanted if "auxiliary_head" in key.split(".")}
    optional = set() if auxiliary & weights.keys() else auxiliary
    shared = [key for key in wanted if key in weights]
    problems = {
        "missing in the checkpoint": [key for key in wanted if key not in weights and key not in optional],
        "not in the model": [
            key if isinstance(key, str) else f"{key!r}, which is no text" for key in weights if key not in wanted
        ],
        "of another shape": [
            f"{key}: checkpoint {tuple(weights[key].shape)}, model {tuple(wanted[key].shape)}"
            for key in shared
            if isinstance(weights[key], Tensor) and not _takes(module, key, wanted[key].shape, weights[key].shape)
        ],
        "of another type": [
            f"{key}: checkpoint {_type(weights[key])}, model {_type(wanted[key])}"
            for key in shared
            if _kind(weights[key]) != _kind(wanted[key])
        ],
    }
    lines = [f"\n  {len(keys)} {what}: {some(keys, _SHOWN_KEYS)}" for what, keys in problems.items() if keys]
    if lines:
        raise UserError(f"{complaint}: its weights belong to another network or config.{''.join(lines)}")


def _kind(value: Any) -> tuple[bool, ...] | None:
    """What a tensor holds, whatever the precision; None of what is no tensor."""
    if not isinstance(value, Tensor):
        return None
    return value.is_floating_point(), value.is_complex(), value.dtype == torch.bool


def _type(value: Any) -> str:
    """The type of a value: of a tensor that of its numbers."""
    return str(value.dtype).removeprefix("torch.") if isinstance(value, Tensor) else type(value).__name__


def _takes(module: nn.Module, key: str, own: torch.Size, given: torch.Size) -> bool:
    """Whether a weight of shape ``given`` can be loaded where the module has one of shape ``own``."""
    if own == given:
        return True
    owner, _, name = key.rpartition(".")
    takes_shape = getattr(module.get_submodule(owner), "takes_shape", None)
    return takes_shape is not None and takes_shape(name, given)
