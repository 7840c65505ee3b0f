"""Scores of masks that are there as files, whoever made them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from medseg_kd.datasets.masks import MaskFiles, MaskPair, pair_masks, read_labels, read_pair, spacing_is_known
from medseg_kd.errors import UserError, first_line, some
from medseg_kd.evaluation.case import Scores, available_threads, score_volumes
from medseg_kd.evaluation.measures.base import PROTOCOLS, Measure, build_all
from medseg_kd.evaluation.measures.surface_distance import HD95, NSD
from medseg_kd.evaluation.summary import Summary, summarise_cases
from medseg_kd.evaluation.surface import foreground_box
from medseg_kd.experiments.mask_labels import MaskLabels, find_labels
from medseg_kd.progress import progress
from medseg_kd.signals import LoadingProcess

MEASURES = ("Dice", "Jaccard", "HD95", "ASD", "NSD", "RAVD", "AVD")
"""What is measured unless told otherwise; AVD where the size of the voxels is known."""

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Evaluation:
    """Scores of masks.

    Attributes:
        summaries: one for each protocol; none where no case could be scored.
        failed: what could not be scored, and why: the name of a case to a message.
        notes: what is to be said of the cases and their labels.
    """

    summaries: Sequence[Summary]
    failed: Mapping[str, str]
    notes: Sequence[str]


def evaluate(
    predictions: str | Path,
    truth: str | Path,
    classes: Sequence[str] | None = None,
    labels: str | Path | None = None,
    measures: Sequence[Any] | None = None,
    tolerance: float | Mapping[str, float] = 2.0,
    hd95: str = "medpy",
    protocols: Sequence[str] = PROTOCOLS,
    allow_missing: bool = False,
    jobs: int | None = None,
    seed: int = 0,
) -> Evaluation:
    """Score masks against true ones, cases side by side; docs/evaluation.md says which files they may be.

    Args:
        predictions, truth: two folders, or two files; cases pair by their names.
        classes: names of the label values 0, 1, ..., background first. None takes those of ``labels``.
        labels: a ``dataset.json`` of nnU-Net, or a ``manifest.json``. None looks for one beside the truth; without
            any, organs are called by their values, or by their files.
        measures: as for ``score_case``. None takes ``MEASURES``.
        tolerance: of ``NSD``, in mm (in voxels where their size is not known), or one for each organ.
        hd95: convention of ``HD95``.
        protocols: see ``score_case``.
        allow_missing: leave out cases without a prediction; an organ without a file is an empty one.
        jobs: processes, each of which holds one case. None is one for each core.
        seed: of the bootstrap.

    Raises:
        UserError: the masks do not pair, or an argument cannot be. What is wrong with one case does not stop the rest.
    """
    if seed < 0 or (jobs is not None and jobs < 1):
        raise UserError(f"--seed {seed}, --jobs {jobs}: expected 0 or more, and 1 or more")
    pairs, notes = pair_masks(Path(predictions), Path(truth), allow_missing)
    in_mm = _in_mm(pairs)
    chosen = _measures(measures, hd95, tolerance, in_mm)
    if not in_mm:
        notes.append("the truth does not tell the size of its voxels: distances are in voxels")
    jobs = min(jobs or available_threads(), len(pairs))
    named = find_labels(pairs, Path(truth), classes, labels, notes, lambda read: _in_processes(read, pairs, jobs))
    for measure in chosen:
        measure.check(list(named.organs), ("mm", "voxel"))
    score = _Scoring(named, chosen, protocols, allow_missing, max(1, available_threads() // jobs), in_mm)
    found = list(zip((pair.case for pair in pairs), _in_processes(score, pairs, jobs), strict=True))
    failed = {case: result for case, result in found if isinstance(result, str)}
    scores = [(case, result) for case, result in found if not isinstance(result, str)]
    if failed and scores:
        notes.append(f"{len(failed)} of {len(pairs)} cases could not be scored and are in no mean: {some([*failed])}")
    summaries, said = summarise_cases(protocols, scores, named.organs, chosen, seed) if scores else ([], [])
    return Evaluation(summaries, failed, [*notes, *said])


@dataclass(frozen=True)
class _Scoring:
    """Called with a pair of masks, gives what ``score_volumes`` does, or in words why it cannot."""

    labels: MaskLabels
    measures: Sequence[Measure]
    protocols: Sequence[str]
    allow_missing: bool
    threads: int
    in_mm: bool

    def __call__(self, pair: MaskPair) -> dict[str, dict[str, Scores]] | str:
        try:
            return score_volumes(
                self._volumes(pair), self.measures, self.protocols, pair.case, self.threads, self.in_mm
            )
        except UserError as error:
            return str(error)
        # Libraries raise what they like for what they cannot read, or for want of memory.
        except Exception as error:
            return f"{type(error).__name__}: {first_line(error)}"

    def _volumes(self, pair: MaskPair) -> Iterator[tuple[np.ndarray, np.ndarray, list[str], Any]]:
        """Masks of a case as ``score_volumes`` takes them, all organs together where each has a value of its own."""
        organs, files = self.labels.organs, (pair.prediction, pair.truth)
        if self.labels.apart and not any(each.organs for each in files):
            pred, true, spacing = read_pair(*files)
            box = foreground_box(pred, true)
            pred, true = self.labels.checked(pred[box], true[box], files)
            yield self.labels.numbered(pred), self.labels.numbered(true), ["background", *organs], spacing
            return
        read = lru_cache(2)(read_labels)  # for a file that holds all organs
        for organ in organs:
            of_organ = [self._file(each, organ) for each in files]
            there = [each for each in of_organ if each is not None]
            if not there:
                yield *np.zeros((2, 1, 1, 1), bool), ["background", organ], (1.0, 1.0, 1.0)
                continue
            pred, true, spacing = read_pair(there[0], there[-1], read)
            box = foreground_box(pred, true)
            pred, true = self.labels.checked(pred[box], true[box], files)
            masks = [
                np.zeros(pred.shape, bool) if file is None else self.labels.of_organ(values, organ, each)
                for values, file, each in zip((pred, true), of_organ, files, strict=True)
            ]
            yield masks[0], masks[1], ["background", organ], spacing

    def _file(self, mask: MaskFiles, organ: str) -> MaskFiles | None:
        """The file that has an organ; None where there is none and none is needed."""
        if mask.organs is None:
            return mask
        if organ not in mask.organs and not self.allow_missing:
            raise UserError(
                f"{mask.path} has no file of the organ {organ}: it has {some([*mask.organs])}. Add it, or take it for "
                "empty with --allow-missing"
            )
        return MaskFiles(mask.organs[organ]) if organ in mask.organs else None


def _in_mm(pairs: Sequence[MaskPair]) -> bool:
    """Whether the truth tells the size of its voxels, by the first case that can be read."""
    for pair in pairs:
        try:
            return spacing_is_known(pair.truth)
        except UserError:
            continue  # it is told when it is scored
    return False


def _measures(
    given: Sequence[Any] | None, hd95: str, tolerance: float | Mapping[str, float], in_mm: bool
) -> list[Measure]:
    """Measures with their options; those of no name of their own take them from elsewhere."""
    with_options = [HD95(hd95), NSD(tolerance, "mm" if in_mm else "voxel")]
    named = {name: each for each in with_options for name in (each.title, each.key)}
    chosen = MEASURES if given is None else given
    if isinstance(chosen, str):
        return build_all(chosen)  # refuses it
    return build_all(
        named.get(each, each) if isinstance(each, str) else each
        for each in chosen
        if in_mm or given is not None or each != "AVD"
    )


def _in_processes(function: Callable[[MaskPair], _Result], pairs: Sequence[MaskPair], jobs: int) -> list[_Result | str]:
    """What a function gives for each pair; a text where its process died, which does not stop the rest."""
    if jobs == 1:
        return [function(pair) for pair in progress(pairs, "masks")]
    with ProcessPoolExecutor(jobs, initializer=LoadingProcess(None), initargs=(0,)) as pool:
        # All of them, before the bar of progress starts a thread, which a forked process would not have.
        futures = [pool.submit(function, pair) for pair in pairs]
        try:
            found = [_result(future) for future in progress(futures, "masks")]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    # A process that dies takes along those beside it: of the lost ones, each has another try on its own.
    return [_alone(function, pair) if lost is None else lost for lost, pair in zip(found, pairs, strict=True)]


def _result(future: Future[_Result]) -> _Result | None:
    """What a process gave; None where it died."""
    try:
        return future.result()
    except BrokenProcessPool:
        return None


def _alone(function: Callable[[MaskPair], _Result], pair: MaskPair) -> _Result | str:
    """What a function gives in a process of its own."""
    with ProcessPoolExecutor(1, initializer=LoadingProcess(None), initargs=(0,)) as pool:
        found = _result(pool.submit(function, pair))
    return "its process was killed or died. Mostly memory is full: lower --jobs" if found is None else found
