"""The metric of the test loop: one data sample is one case."""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from .. import registry
from ..errors import UserError
from . import tables
from .case import Scores, measure_case
from .measures.base import DEFAULT, PROTOCOLS, build_all
from .regions import region_of, without_ignored
from .summary import CaseScores, Summary, summarise, write_metrics_json, write_per_case_csv

WAITING = 2
"""Cases handed over and not yet scored, at most: the volumes of more would fill the memory."""


@registry.METRICS.register_module()
class VolumeMetric(BaseMetric):
    """Dice, Jaccard, HD95, ASD or other measures per organ of whole volumes, under one or more protocols.

    A data sample is a ``SegDataSample`` of one case: ``gt_sem_seg`` and ``pred_sem_seg`` hold (S, H, W) labels (uint8
    is quickest; (H, W) works), the meta information ``case_name`` and, where the case has it, ``spacing`` ((z, y, x) in
    mm). Names of the classes come from ``dataset_meta['classes']`` (the first is background); where
    ``dataset_meta['regions']`` (name to class values) has any, those are scored in place of the classes.
    ``dataset_meta['note']`` is printed with every table.

    A case is reduced to its scores by a thread of its own while the next one is predicted;
    no volume is kept or sent to a process.

    Args:
        measures: names (``Dice``), classes or ``dict(type=NSD, tolerance=2)``. Unless one needs them, no surface is
            looked at.
        protocols: which of ``transunet``, ``strict`` (see :func:`medseg_kd.evaluation.score_case`). The first gives
            the returned values.
        output_dir: folder for ``metrics.json`` and ``per_case.csv``; None writes no files.
        per_class: return ``Dice_<organ>`` and so on beside the means.
        threads: threads for one case; None is one for each core that the process may use.
        ignore_index: value of the ground truth where voxels are not scored.
        prefix: put before the returned names; none by default.
        collect_device: as in MMEngine's ``BaseMetric``.
        collect_dir: as in MMEngine's ``BaseMetric``.

    Attributes:
        scoring_seconds: what the thread took for the cases of this process.
        waited_seconds: for how long :meth:`process` held the loop up.

    Raises:
        UserError: a measure or protocol is not known; later, a case that cannot be scored.
    """

    default_prefix = ""

    def __init__(
        self,
        measures: Sequence[Any] = DEFAULT,
        protocols: Sequence[str] = PROTOCOLS,
        output_dir: str | None = None,
        per_class: bool = False,
        threads: int | None = None,
        ignore_index: int = 255,
        prefix: str | None = None,
        collect_device: str = "cpu",
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix, collect_dir=collect_dir)
        if isinstance(protocols, str) or not protocols or set(protocols) - set(PROTOCOLS):
            raise UserError(
                f"VolumeMetric(protocols={protocols!r}): expected a list of one or more of {', '.join(PROTOCOLS)}."
            )
        self.measures = build_all(measures)
        self.protocols = list(protocols)
        self.output_dir = output_dir
        self.per_class = per_class
        self.threads = threads
        self.ignore_index = ignore_index
        self.scoring_seconds = self.waited_seconds = 0.0
        self._scorer: ThreadPoolExecutor | None = None
        self._waiting: deque[Future[dict[str, Any]]] = deque()

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes, background first."""
        classes = (self.dataset_meta or {}).get("classes")
        if not classes:
            raise UserError("VolumeMetric: the data set has no class names; expected metainfo=dict(classes=(...)).")
        return classes

    @property
    def regions(self) -> Mapping[str, Sequence[int]]:
        """What is scored in place of the classes: name to class values; empty where the classes are."""
        return (self.dataset_meta or {}).get("regions") or {}

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Hand the cases of a batch to the scoring thread.

        Args:
            data_batch: not used.
            data_samples: cases, as ``SegDataSample.to_dict()`` gives them.

        Raises:
            UserError: of this or an earlier case the shapes differ or a label lies outside the classes.
        """
        started = time.perf_counter()
        classes = self.classes
        if self._scorer is None:
            self._scorer = ThreadPoolExecutor(1, thread_name_prefix="scoring")
            self.scoring_seconds = self.waited_seconds = 0.0
        for sample in data_samples:
            if sample.get("gt_sem_seg") is None:
                self._waiting.append(
                    self._scorer.submit(lambda case: {"case": case, "scores": None}, sample["case_name"])
                )
                continue
            self._collect(WAITING - 1)
            self._waiting.append(self._scorer.submit(self._score, sample, classes))
        self.waited_seconds += time.perf_counter() - started

    def evaluate(self, size: int) -> dict[str, float]:
        """Wait for the cases that are not yet scored, then go on as MMEngine does.

        Raises:
            UserError: as in :meth:`process` and :meth:`compute_metrics`.
        """
        try:
            self._collect(0)
        finally:
            self._waiting.clear()
            if self._scorer is not None:
                self._scorer.shutdown()
                self._scorer = None
        return super().evaluate(size)

    def _collect(self, left: int) -> None:
        """Take scores in the order of the cases, until at most ``left`` cases are still to be scored."""
        while self._waiting and (len(self._waiting) > left or self._waiting[0].done()):
            self.results.append(self._waiting.popleft().result())

    def _score(self, sample: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
        """The scores of one case."""
        started = time.perf_counter()
        case = str(sample["case_name"])
        spacing = sample.get("spacing")
        units = {"voxel": None} if spacing is None else {"voxel": None, "mm": spacing}
        pred, truth = (_labels(sample[key]["data"]) for key in ("pred_sem_seg", "gt_sem_seg"))
        pred, truth = without_ignored(pred, truth, self.ignore_index)
        names, pairs = [list(classes)], [(pred, truth)]
        if self.regions:
            what = f"case {case}: the prediction", f"case {case}: the ground truth"
            names = [[classes[0], region] for region in self.regions]
            pairs = [
                (region_of(pred, each, len(classes), what[0]), region_of(truth, each, len(classes), what[1]))
                for each in self.regions.values()
            ]
        measures = [
            measure_case(*pair, len(known), units, self.measures, case, self.threads, known)
            for known, pair in zip(names, pairs, strict=True)
        ]
        scores = {
            protocol: {unit: _joined([each.score(protocol, unit) for each in measures]) for unit in units}
            for protocol in self.protocols
        }
        self.scoring_seconds += time.perf_counter() - started
        return {"case": case, "scores": scores}

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Print the tables, write the files and return the means.

        Args:
            results: what :meth:`process` kept, of all cases.

        Returns:
            ``mDice`` and so on of the first protocol, fractions in percent; with ``per_class`` also ``Dice_<organ>``.

        Raises:
            UserError: there is no case.
        """
        if not results:
            raise UserError("VolumeMetric: no case was scored; the data set is empty.")
        without = [result["case"] for result in results if result["scores"] is None]
        results = [result for result in results if result["scores"] is not None]
        if without:
            print_log(f"Not scored, as they have no label: {', '.join(map(str, without))}", logger="current")
        if not results:
            return {}
        summaries = [self._summary(protocol, results) for protocol in self.protocols]
        self._print(summaries)
        if self.output_dir is not None:
            folder = Path(self.output_dir)
            write_metrics_json(folder / "metrics.json", summaries)
            write_per_case_csv(folder / "per_case.csv", summaries)
            print_log(f"Scores are in {folder / 'metrics.json'} and {folder / 'per_case.csv'}", logger="current")
        first = summaries[0]
        values = {f"m{title}": value for title, value in first.mean.items()}
        if self.per_class:
            for name, scores in first.per_class.items():
                values.update({f"{title}_{name}": value for title, value in scores.items()})
        return values

    def _summary(self, protocol: str, results: list[dict[str, Any]]) -> Summary:
        """Distances in voxels under ``transunet``, else in mm, unless a case does not know its spacing."""
        measured: list[dict[str, Scores]] = [result["scores"][protocol] for result in results]
        without = [r["case"] for r, units in zip(results, measured, strict=True) if "mm" not in units]
        unit = "voxel" if protocol == "transunet" or without else "mm"
        if protocol != "transunet" and 0 < len(without) < len(results):
            print_log(
                f"{len(without)} of {len(results)} cases have no spacing ({', '.join(without)}): "
                f"all distances of protocol {protocol} are in voxels.",
                logger="current",
            )
        cases = [CaseScores(r["case"], unit, units[unit]) for r, units in zip(results, measured, strict=True)]
        return summarise(protocol, cases, [self.classes[0], *(self.regions or self.classes[1:])], self.measures)

    def _print(self, summaries: list[Summary]) -> None:
        """A table for each protocol, or short lines where there are no distances (validation during training)."""
        as_text = tables.table if any(measure.needs for measure in self.measures) else tables.line
        note = (self.dataset_meta or {}).get("note")
        for summary in summaries:
            text = as_text(summary)
            print_log(f"{text}\nNote: {note}" if note else text, logger="current")


def _joined(scores: Sequence[Scores]) -> Scores:
    """Scores of the classes of one label, or of the masks of several regions, numbered from 1."""
    return scores[0] if len(scores) == 1 else {index: each[1] for index, each in enumerate(scores, start=1)}


def _labels(data: torch.Tensor | np.ndarray) -> np.ndarray:
    return data.cpu().numpy() if isinstance(data, torch.Tensor) else np.asarray(data)
