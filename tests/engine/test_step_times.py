"""How long the parts of a step took reaches the log, and nothing is waited for."""

import re

import pytest
import torch

from medseg_kd.distill import KD, SingleTeacherDistill
from medseg_kd.engine import Runner, step_times
from medseg_kd.engine.step_times import PARTS, StepClock
from tests.engine.tiny import tiny_config


class Event:
    """A CUDA event that happens when the GPU gets there; to read it before, or to wait for it, is an error."""

    done = 0
    made = 0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing
        Event.made += 1
        self.number = Event.made

    def record(self) -> None:
        pass

    def query(self) -> bool:
        return self.number <= Event.done

    def elapsed_time(self, end: "Event") -> float:
        assert self.query() and end.query()
        return float(end.number - self.number)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> type[Event]:
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: pytest.fail("waits"))
    Event.made = Event.done = 0
    return Event


def test_steps_that_the_gpu_has_not_done_wait_for_the_next_line(events: type[Event]) -> None:
    clock = StepClock(torch.device("cuda"), kept=2)
    for _ in range(3):
        clock.start("student")
        clock.begin("losses")
        clock.begin("student")
        clock.stop()
    assert clock.read() == {}
    events.done = 8  # of the last two steps, which are kept, the first
    assert clock.read() == {"student": 2.0, "losses": 1.0}
    assert clock.read() == {}
    events.done = 12
    clock.start("losses")  # of a validation, say: never stopped
    clock.start("losses")
    assert clock.read() == {"student": 2.0, "losses": 1.0}


@pytest.mark.parametrize("kind", ["alone", "distilled", "whole"])
def test_each_line_tells_the_parts_of_a_step(kind, phantom, tmp_path, monkeypatch) -> None:
    """Of a graph or a compiled step the whole; and a run leaves its model and optimizer as they were."""
    cfg = tiny_config(phantom, tmp_path, max_iters=3)
    if kind == "distilled":
        cfg.model = dict(type=SingleTeacherDistill, architecture=cfg.model, teacher=cfg.model, distiller=dict(type=KD))
    if kind == "whole":
        monkeypatch.setattr(step_times, "GraphedStep", object)
    runner = Runner.from_cfg(cfg)
    runner.train()
    names = list(PARTS)
    parts = {"alone": names[1:5], "distilled": names[:5], "whole": names[5:]}[kind]
    (log,) = tmp_path.glob("*/*.log")
    lines = [line for line in log.read_text().splitlines() if "data wait" in line]
    told = ", ".join(rf"{part} [\d.]+" for part in parts)
    assert len(lines) == 3 and not any("_ms" in line for line in lines)
    assert all(re.search(rf"data wait \d+%  {told} ms  memory", line) for line in lines[1:])
    network = runner.model.student.network if kind == "distilled" else runner.model.network
    left = [*network._forward_hooks.values(), *network._forward_pre_hooks.values()]
    assert step_times.__name__ not in [hook.__module__ for hook in left]
    assert runner.optim_wrapper.backward.__func__ is type(runner.optim_wrapper).backward
