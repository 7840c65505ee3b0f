"""The line that says where the time of a test went."""

import logging
from types import SimpleNamespace

import pytest

from medseg_kd.engine import StageTimesHook, hooks


@pytest.mark.parametrize(
    ("more", "predicting", "end"), [({}, 18.0, ""), ({"saving_seconds": 1.5}, 16.5, ", saving 1.5 s")]
)
def test_seconds_of_two_cases(more, predicting, end, monkeypatch, caplog):
    """Read in 1 and 2 s, predicted and handed over in 10 and 10 s (held up for 2 of them), 3 s after the last case."""
    clock = iter([100.0, 101.0, 111.0, 113.0, 123.0, 126.0])
    monkeypatch.setattr(hooks.time, "perf_counter", lambda: next(clock))
    metrics = [SimpleNamespace(waited_seconds=2.0, scoring_seconds=7.0), SimpleNamespace(**more)]
    runner = SimpleNamespace(
        logger=logging.getLogger("times"), test_loop=SimpleNamespace(evaluator=SimpleNamespace(metrics=metrics))
    )
    hook = StageTimesHook()
    hook.before_test_epoch(runner)
    for index in range(2):
        hook.before_test_iter(runner, index)
        hook.after_test_iter(runner, index)
    with caplog.at_level(logging.INFO, "times"):
        hook.after_test_epoch(runner, {})
    assert caplog.messages == [
        f"reading 3.0 s (waited for), predicting {predicting} s, scoring 7.0 s (5.0 s waited for){end}"
    ]
