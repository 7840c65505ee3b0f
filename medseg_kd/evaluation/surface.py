"""Surfaces of labelled volumes and the distances between them.

The definitions are MedPy's (``medpy.metric.binary``, connectivity 1): a voxel is on the surface of its object when one
of its face neighbours lies outside the object or outside the volume, and the distance of a surface voxel is the one to
the nearest surface voxel of the other object, in float64. What differs is the way there: the surfaces of *all* labels
are found in one pass by comparing shifted arrays, and distances are looked up in a k-d tree of the few surface voxels
instead of in a distance map of the whole volume.
"""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from scipy.spatial import KDTree

Spacing = float | Sequence[float] | None
"""Voxel size along each axis of the array (one number: the same along all; None: 1), in the unit of the result."""

Size = tuple[float, ...]
"""Voxel size along each axis, checked."""

OFFSETS, FEW_OFFSETS = 500, 30
"""Voxels around a surface voxel where the other surface is looked for, about; and how many show whether it is near."""

SLAB_VOXELS = 1 << 20
"""Voxels that are looked at together: small enough for the processor's cache, large enough to hide Python."""


def voxel_size(spacing: Spacing, ndim: int) -> Size:
    """The voxel size along each of ``ndim`` axes.

    Raises:
        ValueError: a number is missing, too many, not finite or not positive.
    """
    size = np.asarray(1 if spacing is None else spacing, dtype=np.float64)
    size = np.full(ndim, size) if size.ndim == 0 else size
    if size.shape != (ndim,) or not np.all(np.isfinite(size) & (size > 0)):
        raise ValueError(f"spacing={spacing!r}: expected {ndim} positive numbers, one for each axis of the array.")
    return tuple(size.tolist())


def foreground_box(*volumes: np.ndarray) -> tuple[slice, ...]:
    """The smallest box that holds every non-zero voxel of all volumes of one shape; empty where there is none."""
    box = []
    while volumes[0].ndim:
        rest = tuple(range(1, volumes[0].ndim))
        occupied = np.flatnonzero(sum(volume.any(axis=rest) for volume in volumes))
        low, high = (int(occupied[0]), int(occupied[-1]) + 1) if len(occupied) else (0, 0)
        box.append(slice(low, high))
        volumes = tuple(volume[low:high].max(axis=0, initial=0) for volume in volumes)
    return tuple(box)


def slabs(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Ranges ``(start, stop)`` along the first axis that hold about ``SLAB_VOXELS`` voxels each."""
    plane = max(1, int(np.prod(shape[1:], dtype=np.int64)))
    thickness = max(1, SLAB_VOXELS // plane)
    for start in range(0, shape[0], thickness):
        yield start, min(start + thickness, shape[0])


def surface_indices(labels: np.ndarray, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Surface voxels of all non-zero labels in ``labels[start:stop]``.

    What lies outside ``labels``, of any number of axes, counts as another label.

    Returns:
        (n,) int64, ascending flat indices into ``labels`` in C order.
    """
    stop = labels.shape[0] if stop is None else stop
    halo = max(start - 1, 0)
    part = labels[halo : stop + 1]
    inside = np.ones(part.shape, dtype=bool)
    for axis in range(part.ndim):
        along, result = np.moveaxis(part, axis, 0), np.moveaxis(inside, axis, 0)
        same = along[1:] == along[:-1]
        result[1:] &= same
        result[:-1] &= same
        result[[0, -1]] = False
    surface = (labels[start:stop] != 0) & ~inside[start - halo : stop - halo]
    return np.flatnonzero(surface) + start * (labels.size // labels.shape[0])


def directed_distances(source: np.ndarray, target: np.ndarray, shape: tuple[int, ...], size: Size) -> np.ndarray:
    """Distance of each source voxel to the nearest target voxel.

    Args:
        source: (n,) flat indices into an array of ``shape``, without repeats.
        target: (m,) the same, m > 0.

    Returns:
        (n,) float64 distances in the order of ``source``, in the unit of the voxel size.
    """

    if not len(source):
        return np.zeros(0)
    sources, targets = (np.stack(np.unravel_index(flat, shape)) for flat in (source, target))
    distances = np.empty(len(source))
    left = _nearby(sources, targets, size, distances)
    if len(left):
        points, of = (axes.T * size for axes in (targets, sources[:, left]))
        # On surfaces, these settings take two thirds of the time that the defaults take.
        tree = KDTree(points, leafsize=16, balanced_tree=False, compact_nodes=False)
        distances[left] = tree.query(of)[0]
    return distances


def _nearby(sources: np.ndarray, targets: np.ndarray, size: Size, distances: np.ndarray) -> np.ndarray:
    """Fill in the distances of the sources that have a target close by, and give the places of the others.

    All of them are looked up at one offset after the other, the nearest first: the first target is the nearest one.

    Args:
        sources, targets: (axes, n) and (axes, m) voxels.
        distances: (n,), written to.
    """
    offsets, lengths = _offsets(size)
    reach = np.abs(offsets).max(axis=0)[:, None]
    both = np.concatenate([sources, targets], axis=1)
    low = both.min(axis=1, keepdims=True) - reach
    box = tuple((both.max(axis=1, keepdims=True) + reach + 1 - low)[:, 0].tolist())
    occupied = np.zeros(box, bool).ravel()
    occupied[np.ravel_multi_index(tuple(targets - low), box)] = True
    at = np.ravel_multi_index(tuple(sources - low), box)
    steps = offsets @ np.array([math.prod(box[axis + 1 :]) for axis in range(len(box))])
    left = np.arange(len(at))
    for tried, (step, length) in enumerate(zip(steps.tolist(), lengths.tolist(), strict=True)):
        hit = occupied.take(at + step)
        distances[left[hit]] = length
        left, at = left[~hit], at[~hit]
        if not len(left) or (tried > FEW_OFFSETS and 2 * len(left) > len(distances)):
            break
    return left


@lru_cache
def _offsets(size: Size) -> tuple[np.ndarray, np.ndarray]:
    """(k, axes) steps to all voxels of a ball, and how far they lead, in this order."""
    radius = 0.6 * (OFFSETS * math.prod(size)) ** (1 / len(size))
    reach = [int(radius / length) for length in size]
    steps = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), axis=-1).reshape(-1, len(size))
    lengths = np.sqrt(((steps * size) ** 2).sum(axis=1))
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] <= radius]
    return steps[order], lengths[order]
