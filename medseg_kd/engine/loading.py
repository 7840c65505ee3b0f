"""What loading processes need, known before they start."""

import math
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dataset import InfiniteSampler
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from medseg_kd.datasets import SeededSampler
from medseg_kd.errors import UserError

_SHARED = Path("/dev/shm")
"""Where Linux keeps what processes share. A process that writes to it while it is full waits for ever, or dies."""


def first_batch_bytes(loader: DataLoader) -> int:
    """Read the first item of a loader's data; bytes of a batch of such.

    Raises:
        UserError: It cannot be read.
    """
    dataset: Any = loader.dataset
    if isinstance(dataset, IterableDataset) or not len(dataset):
        return 0
    items: Any = loader.batch_size or getattr(loader.batch_sampler, "batch_size", 1)
    return _bytes(dataset[0]) * int(items)


def shared_bytes(loader: DataLoader, batch: int) -> int:
    """Shared memory that the processes of a loader fill with batches of so many bytes, and the one that is in use."""
    waiting: float = loader.num_workers * (loader.prefetch_factor or 0)
    if not isinstance(loader.sampler, (SeededSampler, InfiniteSampler)):
        waiting = min(waiting, math.ceil(len(loader.dataset) / (loader.batch_size or 1)))  # type: ignore[arg-type]
    return int(waiting + bool(waiting)) * batch


def check_shared_memory(needed: int) -> None:
    """Refuse loading processes for whose batches there is no room.

    Args:
        needed: Bytes, by all loaders of this process; others on this machine take as much.

    Raises:
        UserError: There is not so much shared memory, on a system that tells.
    """
    if not needed or sys.platform != "linux" or not _SHARED.is_dir():
        return
    needed *= int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if needed > (free := shutil.disk_usage(_SHARED).free):
        raise UserError(
            f"the loading processes would fill {needed / 2**20:.0f} MB of shared memory, but {free / 2**20:.0f} MB are "
            f"free in {_SHARED}: they would wait for ever. Start the container with --shm-size={-(-needed >> 30) + 1}g "
            "or --ipc=host, lower num_workers or prefetch_factor of the loaders, or set num_workers=0"
        )


def _bytes(item: Any) -> int:
    """Bytes of the tensors in an item."""
    if isinstance(item, Tensor):
        return item.nbytes
    if isinstance(item, Mapping):
        return sum(map(_bytes, item.values()))
    return sum(map(_bytes, item)) if isinstance(item, Sequence) and not isinstance(item, str) else 0
