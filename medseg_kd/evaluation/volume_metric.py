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

from ..errors import UserError
from ..registry import METRICS
from .case import checked_labels, score_volumes
from .measures.base import DEFAULT, PROTOCOLS, build_all
from .summary import summarise_cases, write_metrics_json, write_per_case_csv

WAITING = 2
"""Cases handed over and not yet scored, at most: the volumes of more would fill the memory."""


@METRICS.register_module()
class VolumeMetric(BaseMetric):
    """Dice, Jaccard, HD95, ASD or other measures per organ of whole volumes, under one or more protocols.

    A data sample is a ``SegDataSample`` of one case: ``gt_sem_seg`` and ``pred_sem_seg`` hold (S, H, W) labels (uint8
    is quickest; (H, W) works), the meta information ``case_name`` and, where the case has it, ``spacing`` ((z, y, x) in
    mm). Names of the classes come from ``dataset_meta['classes']`` (the first is background); where
    ``dataset_meta['regions']`` (name to class values) has any, those are scored in place of the classes.
    ``dataset_meta['note']`` is printed with every table.

    A case is reduced to its scores by a thread of its own while the next one is predicted; no volume is kept or sent.

    Args:
        measures: as for ``score_case``. Unless one needs distances, the log has short lines in place of tables.
        protocols: which of ``transunet``, ``strict``, see ``score_case``; the first gives the returned values.
        output_dir: folder for ``metrics.json`` and ``per_case.csv``; None writes no files.
        per_class: return ``Dice_<organ>`` and so on beside the means.
        threads: threads for one case; None is one for each core that the process may use.
        ignore_index: value of the ground truth where voxels are not scored: nnU-Net too leaves them out of its counts.
        prefix: as in MMEngine's ``BaseMetric``; none by default.
        collect_device: as there.
        collect_dir: as there.

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
        super().__init__(collect_device, prefix, collect_dir)
        if isinstance(protocols, str) or not protocols or set(protocols) - set(PROTOCOLS):
            raise UserError(
                f"VolumeMetric(protocols={protocols!r}): expected a list of one or more of {', '.join(PROTOCOLS)}."
            )
        self.measures, self.protocols = build_all(measures), list(protocols)
        self.output_dir, self.per_class = output_dir, per_class
        self.threads, self.ignore_index = threads, ignore_index
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
        """Hand the cases of a batch, as ``SegDataSample.to_dict()`` gives them, to the scoring thread.

        A UserError may be that of an earlier case.
        """
        started = time.perf_counter()
        classes = self.classes
        if self._scorer is None:
            self._scorer = ThreadPoolExecutor(1, thread_name_prefix="scoring")
            self.scoring_seconds = self.waited_seconds = 0.0
        for sample in data_samples:
            self._collect(WAITING - 1)
            self._waiting.append(self._scorer.submit(self._score, sample, classes))
        self.waited_seconds += time.perf_counter() - started

    def evaluate(self, size: int) -> dict[str, float]:
        """Wait for the cases that are not yet scored, then go on as MMEngine does."""
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
        """The scores of one case by protocol and unit; None where it has no label."""
        case = str(sample["case_name"])
        if sample.get("gt_sem_seg") is None:
            return {"case": case, "scores": None}
        started = time.perf_counter()
        pred, truth = (_labels(sample[key]["data"]) for key in ("pred_sem_seg", "gt_sem_seg"))
        if pred.shape == truth.shape and (ignored := truth == self.ignore_index).any():
            pred, truth = np.where(ignored, 0, pred), np.where(ignored, 0, truth)
        spacing = sample.get("spacing")
        if spacing is None and pred.shape == truth.shape == (1, *truth.shape[1:]):
            pred, truth = pred[0], truth[0]  # an image: its objects have a contour, in a volume they are all surface
        volumes = [(pred, truth, list(classes), spacing)]
        if self.regions:
            pred = checked_labels(pred, len(classes), f"case {case}: the prediction")
            truth = checked_labels(truth, len(classes), f"case {case}: the ground truth")
            regions = self.regions.items()
            names = [classes[0]]
            volumes = [(np.isin(pred, each), np.isin(truth, each), [*names, name], spacing) for name, each in regions]
        scores = score_volumes(volumes, self.measures, self.protocols, case, self.threads)
        self.scoring_seconds += time.perf_counter() - started
        return {"case": case, "scores": scores}

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Print the tables, write the files and return the means of the first protocol, fractions in percent."""
        if not results:
            raise UserError("VolumeMetric: no case was scored; the data set is empty.")
        if without := [result["case"] for result in results if result["scores"] is None]:
            print_log(f"Not scored, as they have no label: {', '.join(without)}", logger="current")
            results = [result for result in results if result["scores"] is not None]
        if not results:
            return {}
        scored = [(result["case"], result["scores"]) for result in results]
        summaries, said = summarise_cases(self.protocols, scored, self.regions or self.classes[1:], self.measures)
        for line in said:
            print_log(line, logger="current")
        note = (self.dataset_meta or {}).get("note")
        for summary in summaries:
            text = summary.table if any(measure.needs for measure in self.measures) else summary.lines
            print_log(f"{text}\nNote: {note}" if note else text, logger="current")
        if self.output_dir is not None:
            files = [Path(self.output_dir, name) for name in ("metrics.json", "per_case.csv")]
            write_metrics_json(files[0], summaries)
            write_per_case_csv(files[1], summaries)
            print_log(f"Scores are in {files[0]} and {files[1]}", logger="current")
        first = summaries[0]
        values = {f"m{title}": value for title, value in first.mean.items()}
        if self.per_class:
            for name, scores in first.per_class.items():
                values.update({f"{title}_{name}": value for title, value in scores.items()})
        return values


def _labels(data: torch.Tensor | np.ndarray) -> np.ndarray:
    return data.cpu().numpy() if isinstance(data, torch.Tensor) else np.asarray(data)
