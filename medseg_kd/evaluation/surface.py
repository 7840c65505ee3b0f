"""Surfaces of labelled volumes and the distances between them.

The definitions are MedPy's (``medpy.metric.binary``, connectivity 1): a voxel is on the surface of its object when one
of its face neighbours lies outside the object or outside the volume, and the distance of a surface voxel is the one to
the nearest surface voxel of the other object, in float64. What differs is the way there: the surfaces of *all* labels
are found in one pass by comparing shifted arrays, and distances are looked up in a k-d tree of the few surface voxels
instead of in a distance map of the whole volume.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.spatial import KDTree

Spacing = float | Sequence[float] | None
"""Voxel size along each axis of the array (one number: the same along all; None: 1), in the unit of the result."""

Size = tuple[float, ...]
"""Voxel size along each axis, checked."""

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

    def points(flat: np.ndarray) -> np.ndarray:
        return np.stack(np.unravel_index(flat, shape), axis=1) * size

    distances = np.zeros(len(source))
    apart = ~np.isin(source, target, assume_unique=True)
    if apart.any():
        # On surfaces, these settings take two thirds of the time that the defaults take.
        tree = KDTree(points(target), leafsize=16, balanced_tree=False, compact_nodes=False)
        distances[apart] = tree.query(points(source[apart]))[0]
    return distances
