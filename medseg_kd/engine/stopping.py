"""A run that is asked to end: it finishes its step, saves, and says how to go on. A run folder is for one run."""

import functools
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from torch import distributed

from medseg_kd.errors import UserError
from medseg_kd.files import locked
from medseg_kd.registry import HOOKS
from medseg_kd.signals import NO_READER, Stopped, StopRequest, interrupt, stop_request

_Result = TypeVar("_Result")
LOCK = ".lock"
"""In a run folder, while its training runs."""


def alone_and_stoppable(train: Callable[[Any], _Result]) -> Callable[[Any], _Result]:
    """Let a runner's ``train`` have its run folder for itself, and end in good order when it is asked to.

    See :class:`StopHook`.

    Raises:
        UserError: Another process trains in the folder; of several processes, all raise it.
    """

    @functools.wraps(train)
    def guarded(runner: Any) -> _Result:
        with ExitStack() as stack:
            died = _together(lambda: stack.enter_context(locked(Path(runner.work_dir, LOCK))))
            if died:
                runner.logger.warning(f"{runner.work_dir}: {died}, has ended without a word: its lock is taken over")
            hook = next(hook for hook in runner.hooks if isinstance(hook, StopHook))
            hook.request = stack.enter_context(stop_request())
            return train(runner)

    return guarded


def _together(take: Callable[[], str]) -> str:
    """What the main process takes; where it is refused, it is refused to all."""
    told: list[Any] = ["", None]
    if is_main_process():
        try:
            told[0] = take()
        except UserError as error:
            told[1] = error
    if get_world_size() > 1:
        distributed.broadcast_object_list(told)
    if told[1] is not None:
        raise told[1]
    return told[0]


@HOOKS.register_module()
class StopHook(Hook):
    """Ends a training that was asked to by SIGTERM or Ctrl-C, after an iteration, with a checkpoint of it.

    Every run has it. Several processes end after the same iteration, the one after that in which the first of them was
    asked. In a validation one process saves what was trained before it; several end without saving more.
    """

    # After the hook of checkpoints, which may have saved the iteration.
    priority = "LOWEST"

    def __init__(self) -> None:
        self.request = StopRequest()
        self._group: Any = None
        self._asked = torch.zeros(1)
        self._pending: Any = None

    def before_train(self, runner: Any) -> None:
        """Bring the processes together, on the CPU, so that none waits for a GPU."""
        if get_world_size() > 1:
            self._group = distributed.new_group(backend="gloo")

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Stop, where all know that they have to."""
        if self._all_know():
            self._stop(runner, runner.iter + 1)

    def after_train(self, runner: Any) -> None:
        """Leave nothing behind that the processes wait for."""
        if self._pending is not None:
            self._pending.wait()
            self._pending = None

    def before_val(self, runner: Any) -> None:
        """Stop before a validation; in it several processes, which do not wait for each other, end by themselves."""
        if self._group is None:
            return
        if self._all_know() or self._all_know():  # the second call waits for what the first began
            self._stop(runner, runner.iter)
        self.request.act = interrupt

    def after_val(self, runner: Any) -> None:
        """Let the next iteration be finished again."""
        self.request.act = None

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Stop between two cases."""
        if self._group is None and self.request.signum:
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):
                    hook._swap_ema_parameters()  # the averaged weights were validated
            self._stop(runner, runner.iter)

    def _all_know(self) -> bool:
        """Whether a process was asked to stop, and all know it.

        They tell each other while the next iteration runs, so that none waits.
        """
        if self._group is None:
            return bool(self.request.signum)
        if self._pending is not None:
            self._pending.wait()
        if self._pending is not None and self._asked.item():
            return True
        self._asked = torch.tensor([float(self.request.signum)])
        self._pending = distributed.all_reduce(
            self._asked, op=distributed.ReduceOp.MAX, group=self._group, async_op=True
        )
        return False

    def _stop(self, runner: Any, iteration: int) -> None:
        """Save an iteration, unless it is saved, and end."""
        signum = self.request.signum or int(self._asked.item())
        why = "nobody reads the output" if signum == NO_READER else signal.Signals(signum).name
        hook = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
        if hook is None or hook.by_epoch or not hook.save_optimizer:
            end = "without a checkpoint of it: that takes a CheckpointHook with by_epoch=False and save_optimizer=True"
        else:
            if Path(str(hook.last_ckpt)).name != hook.filename_tmpl.format(iteration):
                hook._save_checkpoint_with_step(runner, iteration, dict(epoch=runner.epoch, iter=iteration))
            end = f"and saved in {runner.work_dir}: the same command with --resume goes on"
        runner.logger.warning(f"stopped after iteration {iteration} ({why}), {end}")
        if self._group is not None:
            distributed.barrier(self._group)
        raise Stopped(signum, "")
