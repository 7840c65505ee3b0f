"""All organs of one case: counts, distances, and the scores that a protocol makes of them."""

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UserError
from .measures.base import DEFAULT, PROTOCOLS, Measure, Organ, build_all
from .surface import Size, Spacing, directed_distances, foreground_box, slabs, surface_indices, voxel_size

Scores = dict[int, dict[str, float | str]]
"""``{class_index: {"dice", "jaccard", "hd95", "asd": float, "status": str}}``, of the measures that were asked for."""


@dataclass(frozen=True)
class CaseMeasure:
    """What is known of one case, before a protocol decides what an absent organ is worth.

    Attributes:
        measures: what is measured.
        organs: for each name of a spacing the organs, in the order of the foreground classes.
    """

    measures: Sequence[Measure]
    organs: Mapping[str, Sequence[Organ]]

    def score(self, protocol: str, unit: str) -> Scores:
        """Scores under a protocol, in the named unit but for measures with a unit of their own."""
        scores: Scores = {}
        for index, organ in enumerate(self.organs[unit]):
            scores[index + 1] = {
                each.key: each.score(self.organs[each.measured_in or unit][index], protocol) for each in self.measures
            }
            scores[index + 1]["status"] = organ.status
        return scores


def units_of(spacing: Spacing) -> dict[str, Spacing]:
    """The units in which a case can be measured."""
    return {"voxel": None} if spacing is None else {"voxel": None, "mm": spacing}


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

    ``transunet`` is what published Synapse tables use (``calculate_metric_percase`` of the TransUNet code); it
    ignores ``spacing``. ``strict`` measures in the unit of ``spacing``, in voxels without one. What an absent organ is
    worth under each is told by the ``absent`` of a measure (docs/evaluation.md has the table).

    Args:
        pred: (S, H, W) integer labels (uint8 is quickest), 0 is background; any number of axes works.
        truth: the same shape.
        num_classes: number of classes with background; labels are 0..num_classes-1.
        spacing: voxel size for each axis of the array: (z, y, x) in mm.
        protocol: ``transunet`` or ``strict``.
        metrics: names (``dice`` or ``Dice``), classes, ``dict(type=NSD, tolerance=2)`` or measures; those that need
            distances cost most of the time.
        case: its name, for error messages.
        threads: None is one for each core that this process may use.
        names: of all classes, for measures that have options by organ.

    Returns:
        :data:`Scores` of the foreground classes, Dice and Jaccard as fractions, distances in voxels or mm.

    Raises:
        UserError: shapes differ, a label lies outside the classes, or an argument is not known.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"protocol={protocol!r} is not known: expected one of {', '.join(PROTOCOLS)}.")
    measures = build_all(metrics)
    unit = "voxel" if protocol == "transunet" or spacing is None else "mm"
    asked = {unit, *(each.measured_in for each in measures)}
    used = {name: size for name, size in units_of(spacing).items() if name in asked}
    return measure_case(pred, truth, num_classes, used, measures, case, threads, names).score(protocol, unit)


def score_volumes(
    volumes: Iterable[tuple[np.ndarray, np.ndarray, Sequence[str], Spacing]],
    measures: Sequence[Measure],
    protocols: Sequence[str],
    case: str,
    threads: int | None = None,
    in_mm: bool = False,
) -> dict[str, dict[str, Scores]]:
    """Score one case of a test set, whose organs lie in one volume or in several, under protocols.

    Args:
        volumes: prediction, truth, the names of their classes, background first, and the spacing, as for
            :func:`score_case`; asked for one after the other. Organs are numbered through all of them.
        in_mm: all cases of the test set have a spacing: what is shown in mm need not be measured in voxels too.

    Returns:
        For each protocol and each unit that it may be shown in the :data:`Scores`.
    """
    needed = {"mm", *(measure.measured_in for measure in measures)}
    needed |= set() if in_mm and "transunet" not in protocols else {"voxel"}
    measured = []
    for pred, truth, names, spacing in volumes:
        if in_mm and spacing is None:
            raise UserError(f"case {case} does not tell the size of its voxels, but other cases do")
        sizes = {unit: size for unit, size in units_of(spacing).items() if unit in needed}
        measured.append(measure_case(pred, truth, len(names), sizes, measures, case, threads, names))
    units = measured[0].organs
    scores: dict[str, dict[str, Scores]] = {protocol: {} for protocol in protocols}
    for protocol in protocols:
        for unit in ["voxel"] if protocol == "transunet" else units:
            organs = [organ for each in measured for organ in each.score(protocol, unit).values()]
            scores[protocol][unit] = dict(enumerate(organs, start=1))
    return scores


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

    Takes the arguments of :func:`score_case` and has its errors, but for the units: ``spacings`` gives each a name of
    your choice and the voxel size (None: voxels). Measures with a unit of their own look for ``mm`` or ``voxel``.
    """
    where = f"case {case}: " if case else ""
    measures = build_all(metrics)
    names = list(map(str, range(num_classes))) if names is None else names
    pred, truth = np.atleast_1d(np.asarray(pred)), np.atleast_1d(np.asarray(truth))
    try:
        sizes = {unit: voxel_size(spacing, truth.ndim) for unit, spacing in spacings.items()}
        for measure in measures:
            measure.check(names[1:], sizes)
    except (ValueError, UserError) as error:
        raise UserError(f"{where}{error}") from error
    if pred.shape != truth.shape:
        raise UserError(f"{where}the prediction has shape {pred.shape}, the ground truth {truth.shape}.")
    pred = checked_labels(pred, num_classes, f"{where}the prediction")
    truth = checked_labels(truth, num_classes, f"{where}the ground truth")
    box = foreground_box(pred, truth)
    pred, truth = pred[box], truth[box]
    needed = {
        (size, need)
        for unit, size in sizes.items()
        for m in measures
        if m.measured_in in (None, unit)
        for need in m.needs
    }
    with ThreadPoolExecutor(threads or available_threads()) as pool:
        overlaps = pool.map(lambda r: _overlap(pred[slice(*r)], truth[slice(*r)], num_classes), slabs(pred.shape))
        overlap = sum(overlaps, np.zeros((num_classes, num_classes), dtype=np.int64))
        counts = np.stack([overlap.sum(axis=1), overlap.sum(axis=0), overlap.diagonal()], axis=1).tolist()
        distances = _distances(pred, truth, num_classes, needed, pool) if needed else {}
    organs: dict[str, list[Organ]] = {unit: [] for unit in sizes}
    for unit, size in sizes.items():
        for k, (found, true, both) in enumerate(counts[1:], start=1):
            measured = {need: job for (of, need, organ), job in distances.items() if of == size and organ == k}
            organs[unit].append(Organ(names[k], found, true, both, size, **measured))
    return CaseMeasure(measures, organs)


def available_threads() -> int:
    """Cores that this process may use; processes started together by a distributed launcher share them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def checked_labels(labels: np.ndarray, num_classes: int, name: str) -> np.ndarray:
    """Labels in the smallest unsigned type, all of them below ``num_classes``; else a UserError that names them."""
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
    found = pool.map(lambda r: surface_indices(labels, *r), slabs(labels.shape))
    indices = np.concatenate([np.empty(0, dtype=np.int64), *found])
    classes = labels[np.unravel_index(indices, labels.shape)]
    order = np.argsort(classes, kind="stable")
    return np.split(indices[order], np.searchsorted(classes[order], np.arange(1, num_classes)))


def _distances(
    pred: np.ndarray, truth: np.ndarray, num_classes: int, needed: set[tuple[Size, str]], pool: ThreadPoolExecutor
) -> dict[tuple[Size, str, int], Any]:
    """What measures need of the classes that have a surface in both, by voxel size, its name and class."""
    found, true = (_surfaces_by_class(labels, num_classes, pool) for labels in (pred, truth))
    present = [k for k in range(1, num_classes) if len(found[k]) and len(true[k])]
    # All of them at once, the largest first, so that no thread waits for the next unit or organ.
    present.sort(key=lambda k: len(found[k]) + len(true[k]), reverse=True)
    jobs: dict[tuple[Size, str, int], Future[Any]] = {}
    for k in present:
        for size, need in sorted(needed):
            if need == "surfels":
                jobs[size, need, k] = pool.submit(_surfel_distances, pred, truth, k, size)
                continue
            source, target = (found[k], true[k]) if need == "pred_to_truth" else (true[k], found[k])
            jobs[size, need, k] = pool.submit(directed_distances, source, target, pred.shape, size)
    return {key: job.result() for key, job in jobs.items()}


def _surfel_distances(pred: np.ndarray, truth: np.ndarray, organ: int, size: Size) -> tuple[np.ndarray, ...]:
    """See :func:`~medseg_kd.evaluation.surfels.surfel_distances`; what it needs takes seconds to import."""
    from .surfels import surfel_distances

    return surfel_distances(pred == organ, truth == organ, size)
