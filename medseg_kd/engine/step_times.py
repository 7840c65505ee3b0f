"""How long the parts of a training step take, without waiting for the device."""

import functools
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from mmengine.hooks import Hook

from medseg_kd.engine.graphs import GraphedStep

PARTS = {
    "teacher": "teacher_ms",
    "student": "student_ms",
    "losses": "criteria_ms",
    "backward": "backward_ms",
    "optimizer": "optimizer_ms",
    "step": "step_ms",
}
"""What the log shows, and its names in the log's files, where what has "loss" in its name is a term of the loss.
``step`` is all of them, where a step is one graph or compiled."""


class StepClock:
    """Marks where the parts of a step begin: by CUDA events, read when they have happened, else by the CPU's clock.

    Args:
        device: Where the step is computed.
        kept: Steps that are kept for :meth:`read`, the last ones.
    """

    def __init__(self, device: torch.device, kept: int = 50) -> None:
        self.is_cuda = device.type == "cuda"
        self._marks: list[tuple[str, Any]] = []
        self._steps: deque[list[tuple[str, Any]]] = deque(maxlen=kept)

    def start(self, part: str) -> None:
        """A step begins, with this part; what was not stopped is forgotten."""
        self._marks = []
        self.begin(part)

    def begin(self, part: str) -> None:
        """From here on it is this part."""
        mark: Any = torch.cuda.Event(enable_timing=True) if self.is_cuda else time.perf_counter()
        if self.is_cuda:
            mark.record()
        self._marks.append((part, mark))

    def stop(self) -> None:
        """The step has ended."""
        self.begin("")
        self._steps.append(self._marks)
        self._marks = []

    def read(self) -> dict[str, float]:
        """Milliseconds of each part, mean of the steps since the last time that the device has done by now."""
        taken: dict[str, float] = {}
        count = 0
        while self._steps and (not self.is_cuda or self._steps[0][-1][1].query()):
            marks, count = self._steps.popleft(), count + 1
            for (part, start), (_, end) in zip(marks, marks[1:], strict=False):
                spent = start.elapsed_time(end) if self.is_cuda else 1e3 * (end - start)
                taken[part] = taken.get(part, 0.0) + spent
        return {part: spent / count for part, spent in taken.items()}


def watch(model: Any, optim_wrapper: Any, clock: StepClock) -> ExitStack:
    """Have the parts of a model and its optimizer tell a clock when they begin.

    Args:
        model: Without a data-parallel wrapper; a distillation's teachers are told apart.
        optim_wrapper: Changed in place.
        clock: It is started and stopped elsewhere.

    Returns:
        Its ``close`` leaves both as they were.
    """
    student = getattr(model, "student", model)
    parts = [(model.data_preprocessor, "augmentation")]
    parts += [(getattr(each.model, "network", each.model), "teacher") for each in getattr(model, "teachers", ())]
    parts += [(getattr(student, "network", student), "student")]
    undo = ExitStack()
    for module, part in parts:
        undo.enter_context(module.register_forward_pre_hook(lambda *_, part=part: clock.begin(part)))
        undo.enter_context(module.register_forward_hook(lambda *_: clock.begin("losses")))
    for name, part, then in (("update_params", "losses", "hooks and log"), ("backward", "backward", "optimizer")):
        if (call := getattr(optim_wrapper, name, None)) is not None:
            setattr(optim_wrapper, name, _timed(call, clock, part, then))
            undo.callback(setattr, optim_wrapper, name, call)
    return undo


def _timed(call: Callable[..., Any], clock: StepClock, part: str, then: str) -> Callable[..., Any]:
    """A function that tells the clock when it begins and ends."""

    @functools.wraps(call)
    def timed(*args: Any, **options: Any) -> Any:
        clock.begin(part)
        result = call(*args, **options)
        clock.begin(then)
        return result

    return timed


class StepTimesHook(Hook):
    """Lets each line of the log say how long teacher, student, losses, backward pass and optimizer took.

    Every run has it. Nothing is waited for: a line tells of the steps that the GPU has done by then.
    """

    def __init__(self) -> None:
        self.clock: StepClock | None = None
        self._undo = ExitStack()

    def before_train(self, runner: Any) -> None:
        """Watch the model, unless its step is one graph or compiled."""
        self.clock = StepClock(next(runner.model.parameters()).device)
        teachers = getattr(runner.bare_model, "teachers", ())
        compiled = bool(runner.cfg.get("compile")) or any(teacher.is_compiled for teacher in teachers)
        self.is_whole = compiled or isinstance(runner.model.train_step, GraphedStep)
        if not self.is_whole:
            self._undo = watch(runner.bare_model, runner.optim_wrapper, self.clock)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """A step begins."""
        assert self.clock is not None
        self.clock.start("step" if self.is_whole else "hooks and log")

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """It has ended."""
        assert self.clock is not None
        self.clock.stop()

    def after_train(self, runner: Any) -> None:
        """Leave the model as it was."""
        self._undo.close()
