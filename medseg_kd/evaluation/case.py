"""All organs of one case: counts, distances, and the scores that a protocol makes of them."""

import os
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UserError
from .measures.base import DEFAULT, PROTOCOLS, Measure, Organ, build_all
from .surface import Spacing, directed_distances, foreground_box, slabs, surface_indices, voxel_size

Scores = dict[int, dict[str, float | str]]
"""``{class_index: {"dice", "jaccard", "hd95", "asd": float, "status": str}}``, of the measures that were asked for."""

Size = tuple[float, ...]
"""Voxel size along each axis; units of equal size share the work."""


@dataclass(frozen=True)
class CaseMeasure:
    """What one case measures, before a protocol decides what an absent organ is worth.

    Attributes:
        measures: what was measured.
        statuses: for each foreground class one of ``ok`` (in truth and prediction), ``missed`` (in the truth alone),
            ``false_alarm`` (in the prediction alone) and ``empty``.
        values: for each name of a spacing, {class_index: {key of a measure: value}}.
    """

    measures: Sequence[Measure]
    statuses: Mapping[int, str]
    values: Mapping[str, Mapping[int, Mapping[str, float]]]

    def score(self, protocol: str, unit: str) -> Scores:
        """Scores of the foreground classes.

        Args:
            protocol: ``transunet`` or ``strict``, see :func:`score_case`.
            unit: the name of the spacing that is taken, but by measures with a unit of their own.

        Returns:
            See :data:`Scores`; what is shown in percent is a fraction.
        """
        scores: Scores = {}
        for index, status in self.statuses.items():
            scores[index] = {}
            for each in self.measures:
                absent, values = each.absent[protocol], self.values[each.measured_in or unit][index]
                scores[index][each.key] = absent[status] if status in absent else values[each.key]
            scores[index]["status"] = status
        return scores


def score_case(
    pred: np.ndarray,
    truth: np.ndarray,
    num_classes: int,
    spacing: Spacing = None,
    protocol: str = "transunet",
    metrics: Sequence[Any] = DEFAULT,
    case: str | None = None,
    threads: int | None = None,
    names: Sequence[str] | None = None,
) -> Scores:
    """Score all organs of one case.

    Protocols, by what the two volumes hold of an organ:

    ========== ================= =================== ====================== =====================
    protocol   both (``ok``)     truth (``missed``)  pred (``false_alarm``) neither (``empty``)
    ========== ================= =================== ====================== =====================
    transunet  MedPy, in voxels  0; distances 0      1; distances 0         0; distances 0
    strict     MedPy, in mm      0; distances nan    0; distances nan       nan; distances nan
    ========== ================= =================== ====================== =====================

    ``transunet`` is what published Synapse tables use (``calculate_metric_percase`` of the TransUNet code); it
    ignores ``spacing``. ``strict`` measures in the unit of ``spacing``, in voxels without one. What other measures are
    worth is told by their ``absent`` and ``measured_in``.

    Args:
        pred: (S, H, W) integer labels (uint8 is quickest), 0 is background; any number of axes works.
        truth: the same shape.
        num_classes: number of classes with background; labels are 0..num_classes-1.
        spacing: voxel size for each axis of the array: (z, y, x) in mm.
        protocol: ``transunet`` or ``strict``.
        metrics: names (``dice`` or ``Dice``), classes, ``dict(type=..., option=...)`` or measures; those that need
            distances cost most of the time.
        case: name of the case, for error messages.
        threads: threads to use; None is one for each core that this process may use.
        names: of all classes, for measures that have options by organ.

    Returns:
        ``{class_index: {"dice", "jaccard", "hd95", "asd", "status"}}`` for the foreground classes, Dice and Jaccard as
        fractions, distances in voxels or in the unit of ``spacing``.

    Raises:
        UserError: shapes differ, a label lies outside the classes, or an argument is not known.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"protocol={protocol!r} is not known: expected one of {', '.join(PROTOCOLS)}.")
    measures = build_all(metrics)
    unit = "voxel" if protocol == "transunet" or spacing is None else "mm"
    known = {"voxel": None} if spacing is None else {"voxel": None, "mm": spacing}
    used = {name: size for name, size in known.items() if name in (unit, *(each.measured_in for each in measures))}
    return measure_case(pred, truth, num_classes, used, measures, case, threads, names).score(protocol, unit)


def measure_case(
    pred: np.ndarray,
    truth: np.ndarray,
    num_classes: int,
    spacings: Mapping[str, Spacing],
    metrics: Sequence[Any] = DEFAULT,
    case: str | None = None,
    threads: int | None = None,
    names: Sequence[str] | None = None,
) -> CaseMeasure:
    """Measure all organs of one case, in one or more units, from one search for the surfaces.

    Args:
        pred, truth, num_classes, metrics, case, threads, names: as for :func:`score_case`.
        spacings: the units in which distances are wanted: a name of your choice and the voxel size (None: voxels).
            Measures with a unit of their own look for ``mm`` or ``voxel``.

    Returns:
        The measures, for :meth:`CaseMeasure.score`.

    Raises:
        UserError: shapes differ, a label lies outside the classes, or a metric is not known or cannot be measured.
    """
    where = f"case {case}: " if case else ""
    measures = build_all(metrics)
    organs = list(map(str, range(num_classes))) if names is None else list(names)
    try:
        sizes: dict[str, Size] = {
            name: tuple(voxel_size(spacing, np.ndim(truth) or 1)) for name, spacing in spacings.items()
        }
        for measure in measures:
            measure.check(organs[1:], sizes)
    except (ValueError, UserError) as error:
        raise UserError(f"{where}{error}") from error
    pred, truth = np.atleast_1d(np.asarray(pred)), np.atleast_1d(np.asarray(truth))
    if pred.shape != truth.shape:
        raise UserError(f"{where}the prediction has shape {pred.shape}, the ground truth {truth.shape}.")
    pred = _checked_labels(pred, num_classes, f"{where}the prediction")
    truth = _checked_labels(truth, num_classes, f"{where}the ground truth")
    box = foreground_box(pred, truth)
    pred, truth = pred[box], truth[box]
    wanted = {unit: [each for each in measures if each.measured_in in (None, unit)] for unit in sizes}
    needed = {(sizes[unit], direction) for unit in sizes for each in wanted[unit] for direction in each.needs}
    values: dict[str, dict[int, dict[str, float]]] = {unit: {} for unit in sizes}
    statuses: dict[int, str] = {}
    with ThreadPoolExecutor(threads or available_threads()) as pool:
        ranges = list(slabs(pred.shape))
        overlaps = pool.map(lambda r: _overlap(pred[slice(*r)], truth[slice(*r)], num_classes), ranges)
        overlap = sum(overlaps, np.zeros((num_classes, num_classes), dtype=np.int64))
        counts = np.stack([overlap.sum(axis=1), overlap.sum(axis=0), overlap.diagonal()], axis=1).tolist()
        distances = _distances(pred, truth, num_classes, needed, pool)
        for unit, size in sizes.items():
            for k in range(1, num_classes):
                parts: dict[str, Any] = {way: each.result() for way, each in distances.get((size, k), {}).items()}
                found, true, both = counts[k]
                organ = Organ(organs[k], found, true, both, size, **parts)
                statuses[k] = organ.status
                measured = [m for m in wanted[unit] if any(organ.status not in absent for absent in m.absent.values())]
                values[unit][k] = {each.key: each(organ) for each in measured}
    return CaseMeasure(measures, statuses, values)


def available_threads() -> int:
    """Cores that this process may use; processes started together by a distributed launcher share them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def _checked_labels(labels: np.ndarray, num_classes: int, name: str) -> np.ndarray:
    """Labels in the smallest unsigned type, all of them below ``num_classes``."""
    if labels.dtype.kind not in "bui":
        raise UserError(f"{name} has the data type {labels.dtype}: expected integer labels 0..{num_classes - 1}.")
    if labels.size and (labels.max() >= num_classes or labels.min() < 0):
        values = np.unique(labels)
        outside = values[(values < 0) | (values >= num_classes)]
        raise UserError(
            f"{name} holds the label values {outside[:10].tolist()}, which are none of the {num_classes} classes "
            f"(0..{num_classes - 1}). Check the label file and the data set's list of classes."
        )
    return labels.astype(np.min_scalar_type(max(num_classes - 1, 0)), copy=False)


def _overlap(pred: np.ndarray, truth: np.ndarray, num_classes: int) -> np.ndarray:
    """(C, C) counts of the voxels that are foreground in either."""
    foreground = (pred | truth) != 0
    joint = pred[foreground].astype(np.intp) * num_classes + truth[foreground]
    return np.bincount(joint, minlength=num_classes**2).reshape(num_classes, num_classes)


def _surfaces_by_class(labels: np.ndarray, num_classes: int, pool: ThreadPoolExecutor) -> list[np.ndarray]:
    """Flat indices of the surface voxels of each class, background included (none)."""
    found = list(pool.map(lambda r: surface_indices(labels, *r), slabs(labels.shape)))
    if not found:
        return [np.empty(0, dtype=np.int64)] * num_classes
    indices = np.concatenate(found)
    classes = labels[np.unravel_index(indices, labels.shape)]
    order = np.argsort(classes, kind="stable")
    return np.split(indices[order], np.searchsorted(classes[order], np.arange(1, num_classes)))


def _distances(
    pred: np.ndarray,
    truth: np.ndarray,
    num_classes: int,
    needed: Collection[tuple[Size, str]],
    pool: ThreadPoolExecutor,
) -> dict[tuple[Size, int], dict[str, Future[np.ndarray]]]:
    """Distances of the classes that have a surface in both, by voxel size, class and direction."""
    if not needed:
        return {}
    found, true = (_surfaces_by_class(labels, num_classes, pool) for labels in (pred, truth))
    present = [k for k in range(1, num_classes) if len(found[k]) and len(true[k])]
    present.sort(key=lambda k: len(found[k]) + len(true[k]), reverse=True)
    distances: dict[tuple[Size, int], dict[str, Future[np.ndarray]]] = {}
    # All of them at once, the largest first, so that no thread waits for the next unit or organ.
    for k in present:
        for size, direction in sorted(needed):
            pair = (found[k], true[k]) if direction == "pred_to_truth" else (true[k], found[k])
            distances.setdefault((size, k), {})[direction] = pool.submit(directed_distances, *pair, pred.shape, size)
    return distances
