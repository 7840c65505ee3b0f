"""Hooks: seed by iteration, progress over cases, the teacher's proof, averages, times."""

import random
import sys
import time
from collections.abc import Iterator
from typing import Any

import mmengine.hooks
import numpy as np
import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce_params, get_rank, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import MODELS
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from medseg_kd.datasets import collate_cases
from medseg_kd.evaluation import score_case
from medseg_kd.models.base import SegmentorBase
from medseg_kd.progress import progress
from medseg_kd.registry import HOOKS


@HOOKS.register_module()
class IterationSeedHook(Hook):
    """Seed every generator from (seed, iteration, rank) before each training iteration.

    Augmentation and dropout then depend on the seed and the iteration number alone, and a resumed run equals the run
    that was never stopped. Several processes augment their slices as one process does that has them all in a batch.
    """

    priority = "VERY_HIGH"

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Seed PyTorch, NumPy and ``random``."""
        first = runner.seed * 1_000_003
        seed = (first + runner.iter * get_world_size() + get_rank()) % 2**32
        # Without another device this is what PyTorch's own does, which takes a third of a millisecond to find none.
        (torch.manual_seed if torch.accelerator.is_available() else torch.default_generator.manual_seed)(seed)
        np.random.seed(seed)
        random.seed(seed)
        if get_world_size() > 1:
            for module in runner.bare_model.modules():
                if hasattr(module, "shared_seed"):
                    module.shared_seed = (first + runner.iter) % 2**32


class IterationHook(Hook):
    """Tells a model which iteration comes, where something in it follows the iteration. Every run has it."""

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Tell it the iteration, and the length of the run."""
        if hasattr(runner.bare_model, "set_iteration"):
            runner.bare_model.set_iteration(runner.iter, runner.max_iters)


_WORDS = {"val": "validation", "test": "test"}


@HOOKS.register_module()
class CaseProgressHook(Hook):
    """Progress of validation and test: a bar on a terminal, plain lines in a log.

    Args:
        lines: Lines that a log gets for one pass.
    """

    def __init__(self, lines: int = 4) -> None:
        self.lines = lines
        self.bar: Iterator[int] | None = None

    def _before_epoch(self, runner: Any, mode: str = "train") -> None:
        """Open the bar."""
        if mode != "train" and is_main_process() and sys.stdout.isatty():
            self.bar = progress(range(len(_loader(runner, mode))), _WORDS[mode])
            next(self.bar, None)

    def _after_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None, mode: str = ""
    ) -> None:
        """Count a case."""
        if mode == "train":
            return
        if self.bar is not None:
            next(self.bar, None)
        elif (batch_idx + 1) % max(1, (cases := len(_loader(runner, mode))) // self.lines) == 0:
            runner.logger.info(f"{_WORDS[mode]}: case {batch_idx + 1} of {cases}")

    def _after_epoch(self, runner: Any, mode: str = "train") -> None:
        """Close the bar."""
        self.bar = None


def _loader(runner: Any, mode: str) -> Any:
    return runner.val_dataloader if mode == "val" else runner.test_dataloader


@HOOKS.register_module()
class TeacherCheckHook(Hook):
    """Before training, log the Dice of each teacher on one validation case.

    A teacher that scores no better than drawing classes at random (1 / number of classes) is a warning that names its
    checkpoint: the usual causes are weights of another data set, another intensity window, or another class order.
    Nothing happens in a run without a teacher, or where that case has no labels.
    """

    def before_train(self, runner: Any) -> None:
        """Score the teachers on the first validation case."""
        teachers = getattr(runner.bare_model, "teachers", ())
        if runner.val_loop is None or not teachers:
            return
        batch = runner.bare_model.data_preprocessor(collate_cases([runner.val_dataloader.dataset[0]]))
        for teacher in teachers:
            if isinstance(teacher.model, SegmentorBase):
                with teacher.precision(torch.device(get_device())):
                    self._check(runner, teacher.model, teacher.source, batch)

    def _check(self, runner: Any, teacher: SegmentorBase, source: str, batch: dict[str, Any]) -> None:
        """Score one teacher on a batch of one case; ignored voxels do not count."""
        (sample,) = teacher.predict(**batch)
        if "gt_sem_seg" not in sample:
            return
        prediction, truth = (sample.get(key).data.cpu().numpy() for key in ("pred_sem_seg", "gt_sem_seg"))
        counted = truth != teacher.ignore_index
        prediction, truth = prediction[counted], truth[counted]
        scores = score_case(prediction, truth, teacher.num_classes, metrics=("dice",))
        present = [float(score["dice"]) for organ, score in scores.items() if (truth == organ).any()]
        dice = float(np.mean(present)) if present else float("nan")
        runner.logger.info(f"teacher ({source}): Dice {dice:.1%} on validation case {sample.case_name}")
        if present and dice <= 1 / teacher.num_classes:
            runner.logger.warning(
                f"the teacher is at chance level: {source} may belong to another data set, intensity window or class "
                "order. The student will learn its mistakes"
            )


@HOOKS.register_module()
class EMAHook(mmengine.hooks.EMAHook):
    """MMEngine's hook, which of a distillation averages the student alone; its arguments are the same.

    A checkpoint has the averaged weights as ``state_dict``, under the student's own names, and those that training goes
    on with as ``ema_state_dict``.
    """

    def before_run(self, runner: Any) -> None:
        """Copy the segmentor that is trained."""
        model = runner.bare_model
        self.src_model = getattr(model, "student", model)
        self.ema_model = MODELS.build(self.ema_cfg, default_args=dict(model=self.src_model))


@HOOKS.register_module()
class NormStatisticsHook(Hook):
    """Before a validation, give all processes the same running statistics; :class:`Runner` adds it to every run."""

    priority = "VERY_HIGH"

    def before_val(self, runner: Any) -> None:
        """Average them."""
        runner.average_statistics()


def average_over_processes(model: nn.Module) -> None:
    """Set means and variances of all norms of a model to their mean over the processes; all of them must call it."""
    norms = [module for module in model.modules() if isinstance(module, _NormBase)]
    statistics = (value for norm in norms for value in (norm.running_mean, norm.running_var) if value is not None)
    all_reduce_params(statistics, op="mean")


@HOOKS.register_module()
class StageTimesHook(Hook):
    """After a test, log in one line the seconds that reading, predicting and scoring took.

    Reading counts where the loop waited for it. Scoring runs beside the loop and counts in full; how long the loop
    waited for it, and for the tables, is said too. Metrics tell their part by ``waited_seconds``, ``scoring_seconds``
    and ``saving_seconds``; without them their time counts as predicting.
    """

    # Last of the hooks, so that what the others do after a case does not count as reading.
    priority = "LOWEST"

    def __init__(self) -> None:
        self._reading = self._working = self._mark = 0.0

    def before_test_epoch(self, runner: Any) -> None:
        """Start the clock."""
        self._reading = self._working = 0.0
        self._mark = time.perf_counter()

    def before_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """A case was read."""
        self._reading += self._lap()

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """A case was predicted and handed to the metrics."""
        self._working += self._lap()

    def after_test_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Log the line."""
        last = self._lap()
        held, scoring, saving = (
            sum(getattr(metric, name, 0.0) for metric in runner.test_loop.evaluator.metrics)
            for name in ("waited_seconds", "scoring_seconds", "saving_seconds")
        )
        whose = f"process 1 of {get_world_size()}: " if get_world_size() > 1 else ""
        runner.logger.info(
            f"{whose}reading {self._reading:.1f} s (waited for), predicting {self._working - held - saving:.1f} s, "
            f"scoring {scoring:.1f} s ({held + last:.1f} s waited for)" + (f", saving {saving:.1f} s" if saving else "")
        )

    def _lap(self) -> float:
        """Seconds since the last call."""
        mark, self._mark = self._mark, time.perf_counter()
        return self._mark - mark
