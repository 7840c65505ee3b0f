"""Where the time of a test went."""

import time
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook

from medseg_kd.registry import HOOKS


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
