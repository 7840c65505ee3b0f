"""All organs of one case: counts, distances, and the scores that a protocol makes of them."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from .surface import Spacing, directed_distances, foreground_box, slabs, surface_indices, voxel_size

METRICS = ("dice", "jaccard", "hd95", "asd")
PROTOCOLS = ("transunet", "strict")
STATUSES = ("ok", "missed", "false_alarm", "empty")

Scores = dict[int, dict[str, float | str]]
"""``{class_index: {"dice", "jaccard", "hd95", "asd": float, "status": str}}``, of the metrics that were asked for."""


@dataclass(frozen=True)
class CaseMeasure:
    """What one case measures, before a protocol decides what an absent organ is worth.

    Attributes:
        overlap: (C, C) voxel counts, predicted class by true class; [0, 0] is not counted.
        distances: for each name of a spacing, {class_index: {"hd95", "asd"}} of the classes that both volumes hold.
    """

    overlap: np.ndarray
    distances: Mapping[str, Mapping[int, Mapping[str, float]]]

    def status(self, index: int) -> str:
        """What is there of a class.

        Returns:
            ``ok``: in truth and prediction; ``missed``: in the truth alone; ``false_alarm``: in the prediction
            alone; ``empty``: in neither.
        """
        predicted, true = self.overlap[index].sum() > 0, self.overlap[:, index].sum() > 0
        if predicted and true:
            return "ok"
        return "missed" if true else "false_alarm" if predicted else "empty"

    def score(self, protocol: str, unit: str, metrics: Iterable[str] = METRICS) -> Scores:
        """Scores of the foreground classes.

        Args:
            protocol: ``transunet`` or ``strict``, see :func:`score_case`.
            unit: the name of the spacing whose distances are taken.
            metrics: which of ``METRICS``.

        Returns:
            See :data:`Scores`; Dice and Jaccard are fractions.
        """
        scores: Scores = {}
        for index in range(1, len(self.overlap)):
            status = self.status(index)
            values = self._present(index, unit) if status == "ok" else _absent(protocol, status)
            scores[index] = {name: values[name] for name in metrics}
            scores[index]["status"] = status
        return scores

    def _present(self, index: int, unit: str) -> dict[str, float]:
        both = int(self.overlap[index, index])
        total = int(self.overlap[index].sum() + self.overlap[:, index].sum())
        distances = self.distances.get(unit, {}).get(index, {})
        return {"dice": 2.0 * both / total, "jaccard": both / (total - both), **distances}


def score_case(
    pred: np.ndarray,
    truth: np.ndarray,
    num_classes: int,
    spacing: Spacing = None,
    protocol: str = "transunet",
    metrics: Sequence[str] = METRICS,
    case: str | None = None,
    threads: int | None = None,
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
    ignores ``spacing``. ``strict`` measures in the unit of ``spacing``, in voxels without one.

    Args:
        pred: (S, H, W) integer labels (uint8 is quickest), 0 is background; any number of axes works.
        truth: the same shape.
        num_classes: number of classes with background; labels are 0..num_classes-1.
        spacing: voxel size for each axis of the array: (z, y, x) in mm.
        protocol: ``transunet`` or ``strict``.
        metrics: which of ``dice``, ``jaccard``, ``hd95``, ``asd``; distances cost most of the time.
        case: name of the case, for error messages.
        threads: threads to use; None is one for each core that this process may use.

    Returns:
        ``{class_index: {"dice", "jaccard", "hd95", "asd", "status"}}`` for the foreground classes, Dice and Jaccard as
        fractions, distances in voxels or in the unit of ``spacing``.

    Raises:
        UserError: shapes differ, a label lies outside the classes, or an argument is not known.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"protocol={protocol!r} is not known: expected one of {', '.join(PROTOCOLS)}.")
    used = None if protocol == "transunet" else spacing
    measure = measure_case(pred, truth, num_classes, {"used": used}, metrics, case, threads)
    return measure.score(protocol, "used", metrics)


def measure_case(
    pred: np.ndarray,
    truth: np.ndarray,
    num_classes: int,
    spacings: Mapping[str, Spacing],
    metrics: Sequence[str] = METRICS,
    case: str | None = None,
    threads: int | None = None,
) -> CaseMeasure:
    """Measure all organs of one case, in one or more units, from one search for the surfaces.

    Args:
        pred: (S, H, W) integer labels, 0 is background; any number of axes works.
        truth: the same shape.
        num_classes: number of classes with background.
        spacings: the units in which distances are wanted: a name of your choice and the voxel size (None: voxels).
        metrics: which of ``dice``, ``jaccard``, ``hd95``, ``asd``.
        case: name of the case, for error messages.
        threads: threads to use; None is one for each core that this process may use.

    Returns:
        The measures, for :meth:`CaseMeasure.score`.

    Raises:
        UserError: shapes differ, a label lies outside the classes, or a metric is not known.
    """
    if unknown := set(metrics) - set(METRICS):
        raise UserError(f"metrics {sorted(unknown)} are not known: expected some of {', '.join(METRICS)}.")
    where = f"case {case}: " if case else ""
    try:
        sizes = {name: tuple(voxel_size(spacing, np.ndim(truth) or 1)) for name, spacing in spacings.items()}
    except ValueError as error:
        raise UserError(f"{where}{error}") from error
    pred, truth = np.atleast_1d(np.asarray(pred)), np.atleast_1d(np.asarray(truth))
    if pred.shape != truth.shape:
        raise UserError(f"{where}the prediction has shape {pred.shape}, the ground truth {truth.shape}.")
    pred = _checked_labels(pred, num_classes, f"{where}the prediction")
    truth = _checked_labels(truth, num_classes, f"{where}the ground truth")
    box = foreground_box(pred, truth)
    pred, truth = pred[box], truth[box]
    with ThreadPoolExecutor(threads or available_threads()) as pool:
        ranges = list(slabs(pred.shape))
        overlaps = pool.map(lambda r: _overlap(pred[slice(*r)], truth[slice(*r)], num_classes), ranges)
        overlap = sum(overlaps, np.zeros((num_classes, num_classes), dtype=np.int64))
        wanted = [name for name in ("hd95", "asd") if name in metrics]
        distances: dict[str, dict[int, dict[str, float]]] = {}
        if wanted:
            found = _surfaces_by_class(pred, num_classes, pool)
            true = _surfaces_by_class(truth, num_classes, pool)
            distances = _distances(found, true, pred.shape, sizes, wanted, pool)
    return CaseMeasure(overlap, distances)


def available_threads() -> int:
    """Cores that this process may use; processes started together by a distributed launcher share them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def _absent(protocol: str, status: str) -> dict[str, float]:
    """Scores of an organ that at least one of the two volumes lacks."""
    if protocol == "transunet":
        overlap, distance = float(status == "false_alarm"), 0.0
    else:
        overlap, distance = math.nan if status == "empty" else 0.0, math.nan
    return {"dice": overlap, "jaccard": overlap, "hd95": distance, "asd": distance}


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
    pred: list[np.ndarray],
    truth: list[np.ndarray],
    shape: tuple[int, ...],
    sizes: Mapping[str, tuple[float, ...]],
    metrics: Sequence[str],
    pool: ThreadPoolExecutor,
) -> dict[str, dict[int, dict[str, float]]]:
    """HD95 and ASD of the classes that have a surface in both, for each voxel size; equal sizes share the work."""
    present = [k for k in range(1, len(pred)) if len(pred[k]) and len(truth[k])]
    present.sort(key=lambda k: len(pred[k]) + len(truth[k]), reverse=True)
    units = set(sizes.values())
    # All of them at once, the largest first, so that no thread waits for the next unit or organ.
    forward = {
        (size, k): pool.submit(directed_distances, pred[k], truth[k], shape, size) for k in present for size in units
    }
    backward = {}
    if "hd95" in metrics:
        backward = {(size, k): pool.submit(directed_distances, truth[k], pred[k], shape, size) for size, k in forward}
    tables: dict[tuple[float, ...], dict[int, dict[str, float]]] = {size: {} for size in units}
    for size, k in sorted(forward):
        found = forward[size, k].result()
        tables[size][k] = {"asd": float(found.mean())} if "asd" in metrics else {}
        if "hd95" in metrics:
            both = np.concatenate([found, backward[size, k].result()])
            tables[size][k]["hd95"] = float(np.percentile(both, 95))
    return {name: tables[size] for name, size in sizes.items()}
