"""Slices decoded once, into a memory-mapped file that runs share."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from medseg_kd import __version__
from medseg_kd.errors import UserError
from medseg_kd.files import new_array, whole_file
from medseg_kd.progress import progress

NUMBER_FORMATS = ("uint8", "float16", "float32")
"""In which images are kept: the first that gives every value back exactly. ``uint8`` holds multiples of 1/255."""

_ABANDONED = 24 * 3600
"""Seconds after which a half-written file is nobody's."""


class Source(Protocol):
    """What is cached: a data set of slices of one size."""

    data_root: str

    def __len__(self) -> int: ...

    def decode(self, index: int) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
        """Image (C, H, W) float32, without neighbours, label (H, W) uint8, and (H, W) in the file."""
        ...

    def origin(self) -> Any:
        """What the content depends on beside the files: the format, its options, the spec; as JSON."""
        ...

    def files(self) -> list[Path] | None:
        """The files of all slices, in order; None where they are not told."""
        ...


class SliceCache:
    """The decoded slices of a data set.

    Args:
        path: A file that :func:`open_cache` has written.

    Attributes:
        images: (M, C, H, W), in one of :data:`NUMBER_FORMATS`; memory-mapped, or where :meth:`to` has brought them.
        labels: (M, H, W) uint8, likewise.
        shapes: (H, W) of each slice in its file.
        soft: (M, K, H, W), what else is kept of each slice, likewise; None where there is nothing.
    """

    def __init__(self, path: Path, soft: Tensor | None = None) -> None:
        # Pages of a private map can be written to, which PyTorch asks of an array; the file stays as it is.
        records = np.lib.format.open_memmap(path, mode="c")
        self.images, self.labels = torch.from_numpy(records["image"]), torch.from_numpy(records["label"])
        self.shapes: list[tuple[int, int]] = [(int(h), int(w)) for h, w in records["shape"]]
        self.soft = soft

    def __len__(self) -> int:
        return len(self.images)

    @property
    def nbytes(self) -> int:
        """Bytes of all slices."""
        return self.images.nbytes + self.labels.nbytes + (0 if self.soft is None else self.soft.nbytes)

    def to(self, device: torch.device) -> None:
        """Copy all slices to a device."""
        self.images, self.labels = (_copied(tensor, device) for tensor in (self.images, self.labels))
        self.soft = None if self.soft is None else _copied(self.soft, device)

    def gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Slices by index.

        Args:
            indices: (N, K) on the CPU: the K slices that are stacked as the channels of an image; the one in the
                middle has its label.

        Returns:
            Images (N, K * C, H, W) float32 and labels (N, H, W) uint8, on the device of the slices; on the CPU in
            pinned memory where there is a GPU, so that the copy to it overlaps.
        """
        middle = indices[:, indices.shape[1] // 2]
        images, labels = self._select(self.images, indices.flatten()), self._select(self.labels, middle)
        images = images.float() / 255 if images.dtype == torch.uint8 else images.float()
        return images.view(len(indices), -1, *images.shape[-2:]), labels

    def gather_soft(self, places: Tensor) -> Tensor | None:
        """What else is kept of slices, (N, K, H, W), by places (N,) on the CPU; where the images are."""
        return None if self.soft is None else self._select(self.soft, places)

    @staticmethod
    def _select(tensor: Tensor, indices: Tensor) -> Tensor:
        if tensor.is_cuda:
            return tensor.index_select(0, indices.pin_memory().to(tensor.device, non_blocking=True))
        out = torch.empty((len(indices), *tensor.shape[1:]), dtype=tensor.dtype, pin_memory=torch.cuda.is_available())
        return torch.index_select(tensor, 0, indices, out=out)


def _copied(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device, copied part by part: the whole may not fit into memory."""
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
    for start in range(0, len(tensor), 64):
        copy[start : start + 64] = tensor[start : start + 64].contiguous()
    return copy


def open_cache(
    source: Source, folder: Path | None = None, workers: int = 0, soft: Tensor | None = None
) -> SliceCache | None:
    """The cache of a data set; written first where there is none of these files as they are.

    Its name is a hash of the files' names, sizes and times and of all else that its content depends on, so that a
    changed data set gets another one; outside of the data folder also of where that lies. It is there whole or not at
    all; several processes may ask at once.

    Args:
        source: The data set.
        folder: Where caches lie; None: ``.cache`` in the data folder, or where that cannot be written to
            ``medseg_kd`` in the user's cache folder.
        workers: Processes that decode.
        soft: ``soft`` of the cache.

    Returns:
        None where slices cannot be cached: they differ in size, or there is no room. The log says why.

    Raises:
        UserError: A file cannot be read.
    """
    if not (files := source.files()):
        print_log("slices are read each time: their format does not tell from which files", "current")
        return None
    paths = cache_paths("slices", source.data_root, source.origin(), files, folder)
    if is_main_process() and not any(_is_readable(path, len(source)) for path in paths):
        _write(source, paths, workers)
    barrier()
    if not (found := [path for path in paths if _is_readable(path, len(source))]):
        return None
    print_log(f"slices come decoded from {found[0]}", "current")
    return SliceCache(found[0], soft)


def _write(source: Source, paths: Sequence[Path], workers: int) -> None:
    """Write the cache to the first path whose folder takes it."""
    first = source.decode(0)[0]
    path = first_writable(paths)
    for kind in _formats_of(first):
        try:
            if path is None:
                raise OSError("no folder to write to")
            with whole_file(path) as draft:
                _fill(source, draft, first.shape, kind, workers)
            return
        except _FormatError:
            continue
        except (OSError, _UnevenError) as error:
            print_log(f"slices are read from their files: {path or paths[0]} was not written ({error})", "current")
            return


class _UnevenError(Exception):
    """Slices of different sizes."""


class _FormatError(Exception):
    """A value that the number format does not hold."""


class _Decoder(Dataset):
    """Decodes slices into a file, from any process; an item is what went wrong."""

    def __init__(self, source: Source, path: Path, kind: str) -> None:
        self.source, self.path, self.kind = source, path, kind
        self.records: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Exception | None:
        if self.records is None:
            self.records = np.load(self.path, mmap_mode="r+")
        record = self.records[index]
        try:
            image, label, shape = self.source.decode(index)
        except UserError as error:
            return error
        if image.shape != record["image"].shape:
            return _UnevenError(f"slices of {image.shape} and {record['image'].shape} (channels, height, width)")
        if (kept := _encoded(image, self.kind)) is None:
            return _FormatError()
        record["image"], record["label"], record["shape"] = kept, label, shape
        return None


def _fill(source: Source, path: Path, shape: tuple[int, ...], kind: str, workers: int) -> None:
    """Decode all slices, of images of this shape (C, H, W), into a new file."""
    record = _record(kind, shape)
    needed, free = len(source) * record.itemsize, shutil.disk_usage(path.parent).free
    if 2 * needed > free:
        raise OSError(f"it needs {needed >> 20} MB, more than half of the {free >> 20} MB that are free")
    new_array(path, record, (len(source),))
    decoder = _Decoder(source, path, kind)
    # A generator of its own: a loader draws a number, and the run must not depend on whether there was a cache.
    loader = DataLoader(decoder, batch_size=None, num_workers=workers, generator=torch.Generator())
    wrong: Exception | None
    for wrong in progress(loader, "decoding slices, once"):  # type: ignore[arg-type]
        if wrong is not None:
            raise wrong


def _record(kind: str, shape: tuple[int, ...]) -> np.dtype:
    """How a slice is kept whose image is (C, H, W)."""
    return np.dtype([("image", kind, shape), ("label", "uint8", shape[1:]), ("shape", "int32", 2)], align=True)


def _formats_of(image: np.ndarray) -> Sequence[str]:
    """The number formats to try: the first that holds this image, and float32, which holds all."""
    fits = next(kind for kind in NUMBER_FORMATS if _encoded(image, kind) is not None)
    return [fits] if fits == "float32" else [fits, "float32"]


def _encoded(image: np.ndarray, kind: str) -> np.ndarray | None:
    """An image in a number format; None where that changes it."""
    if kind == "uint8":
        kept = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
        back = kept.astype(np.float32) / np.float32(255)
    else:
        with np.errstate(over="ignore"):
            kept = image.astype(kind)
        back = kept.astype(np.float32)
    return kept if np.array_equal(back, image) else None


def cache_paths(kind: str, root: str, origin: Any, files: Sequence[Path], folder: Path | None = None) -> list[Path]:
    """Where a cache may lie: names that are hashes of what its content depends on, elsewhere also of the data's place.

    Args:
        kind: What it holds, with which the name begins.
        root: Data folder.
        origin: What the content depends on beside the files, as JSON.
        files: The files.
        folder: Where caches lie; None: ``.cache`` in the data folder, or ``medseg_kd`` in the user's cache folder.
    """
    digest = hashlib.sha256(json.dumps([__version__, origin], sort_keys=True, default=str).encode())
    for file in files:
        stat = file.stat()
        digest.update(f"\n{os.path.relpath(file, root)} {stat.st_size} {stat.st_mtime_ns}".encode())
    placed = digest.copy()
    placed.update(os.path.realpath(root).encode())
    beside, elsewhere = (f"{kind}-{each.hexdigest()[:16]}.npy" for each in (digest, placed))
    return [folder / elsewhere] if folder else [Path(root, ".cache", beside), _user_folder() / elsewhere]


def first_writable(paths: Sequence[Path]) -> Path | None:
    """The first of the paths whose folder can be written to; what killed processes have left there is removed."""
    for draft in paths[0].parent.glob(f".*-{paths[0].name}"):
        if time.time() - draft.stat().st_mtime > _ABANDONED:
            draft.unlink(missing_ok=True)
    return next((path for path in paths if _is_writable(path.parent)), None)


def _is_readable(path: Path, count: int) -> bool:
    """Whether a cache of so many slices is there and whole; a copy of it, or a disk that failed, may have left less."""
    try:
        records = np.lib.format.open_memmap(path, mode="r")
        kind, shape = records.dtype["image"].subdtype or ("", ())
    except (OSError, ValueError, EOFError, KeyError, OverflowError):
        return False
    fits = len(shape) == 3 and str(kind) in NUMBER_FORMATS and records.dtype == _record(str(kind), shape)
    return fits and records.shape == (count,)


def _user_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "medseg_kd"


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)
