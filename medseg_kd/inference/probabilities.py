"""Probabilities of a case as a file, written slice by slice."""

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from torch import Tensor

from medseg_kd.datasets.volumes import orientation_of, turned, turns
from medseg_kd.files import new_array, whole_file
from medseg_kd.inference.case import Keep
from medseg_kd.inference.source import Source


@contextmanager
def probabilities_file(path: Path, source: Source, names: Sequence[str]) -> Iterator[Keep]:
    """What takes the probabilities of the slices of an input and writes them to an npz file when the block ends.

    The file holds ``probabilities``, float16 (outputs, S, H, W) on the grid of the input, its axes those of
    ``Prediction.labels`` ((outputs, H, W) of a slice), and ``names`` of the outputs. They lie in a file meanwhile, not
    in memory.

    Raises:
        WriteError: It cannot be written.
    """
    with whole_file(path) as draft:
        stored = draft.with_suffix(".npy")
        done, slices = 0, None

        def keep(batch: Tensor) -> None:
            nonlocal slices, done
            if slices is None:
                shape = (batch.shape[1], 1 if source.ndim == 2 else source.raw.image.shape[-3], *batch.shape[2:])
                slices = _slices_of(stored, shape, source)
            slices[:, done : done + len(batch)] = batch.numpy().swapaxes(0, 1)
            done += len(batch)

        try:
            yield keep
            slices = None  # lets go of the file
            with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
                file.write(stored, "probabilities.npy")
                with file.open("names.npy", "w") as member:
                    np.save(member, np.array(names))
        finally:
            slices = None
            stored.unlink(missing_ok=True)


def _slices_of(file: Path, shape: tuple[int, ...], source: Source) -> np.ndarray:
    """A new array in a file, on the grid of an input; seen as the slices (outputs, S, H, W) that are predicted."""
    if source.ndim == 2:
        return new_array(file, np.float16, (shape[0], *shape[2:]))[:, None]
    geometry = source.raw.geometry or {}
    if not geometry.get("orientation"):
        return new_array(file, np.float16, shape)
    here, there = orientation_of(geometry["direction"]), geometry["orientation"]
    order, _ = turns(here, there)
    grid = new_array(file, np.float16, (shape[0], *(shape[1 + axis] for axis in order)))
    return turned(grid, there, here)
