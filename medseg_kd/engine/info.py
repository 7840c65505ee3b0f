"""What training tells the log: read from the device once for each line, not once for each value."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from mmengine.hooks import CheckpointHook, LoggerHook, RuntimeInfoHook
from mmengine.optim import OptimWrapper
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from medseg_kd.engine.finite import FiniteLossHook, slices_of
from medseg_kd.registry import HOOKS


def is_waited_for(outputs: Mapping[str, Any]) -> bool:
    """Whether reading these values means waiting for a GPU."""
    return all(isinstance(each, Tensor) and each.is_cuda for each in outputs.values())


@HOOKS.register_module()
class TrainInfoHook(RuntimeInfoHook):
    """MMEngine's hook of runtime information, which waits for the GPU only where a line of the log is due.

    MMEngine reads every term of the loss after every step. Here they stay on the device until the logger asks, a
    validation starts or a checkpoint is saved; on the CPU nothing changes. The runner puts it in place of MMEngine's.
    What is read goes through the run's :class:`~medseg_kd.engine.FiniteLossHook`. Each line has the norm of the
    gradients of the last update before it, ``grad_norm``; where they are clipped, MMEngine tells it in each step.
    """

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._steps: list[Tensor] = []
        self._about: list[tuple[int, list[str]]] = []
        self._intervals: list[int] = []
        self._norm: Tensor | None = None

    def before_train(self, runner: Any) -> None:
        """Look up how often the log gets a line, and how often a checkpoint is saved."""
        super().before_train(runner)
        saving = [hook.interval for hook in runner.hooks if isinstance(hook, CheckpointHook) and not hook.by_epoch]
        logging = min((hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)), default=1)
        self._intervals = [logging, *(interval for interval in saving if interval > 0)]
        wrapper = getattr(runner, "optim_wrapper", None)
        if isinstance(wrapper, OptimWrapper) and not wrapper.clip_grad_kwargs:
            wrapper.optimizer.register_step_pre_hook(partial(self._measure, runner, wrapper._accumulative_counts))

    def _measure(self, runner: Any, steps: int, optimizer: Optimizer, *_: Any) -> None:
        """Keep the norm of the gradients in the last update before a line of the log."""
        if runner.iter + steps >= runner.max_iters or -(runner.iter + 1) % self._intervals[0] < steps:
            gradients = [each.grad for group in optimizer.param_groups for each in group["params"]]
            self._norm = get_total_norm([each for each in gradients if each is not None])
            if (scale := getattr(optimizer, "grad_scale", None)) is not None:  # a fused one unscales by itself
                self._norm = self._norm / scale

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Keep the terms of a step, or hand them on."""
        waits = bool(outputs) and is_waited_for(outputs)
        if not waits or tuple(outputs) != self._names:
            self.flush(runner)
        if not waits:
            super().after_train_iter(runner, batch_idx, data_batch, outputs)
            terms = {
                name: float(value.detach().mean())
                for name, value in (outputs or {}).items()
                if isinstance(value, Tensor)
            }
            _check(runner, runner.iter + 1, terms, slices_of(data_batch))
            return
        self._names = tuple(outputs)
        self._steps.append(torch.stack([each.detach().float().mean() for each in outputs.values()]))
        self._about.append((runner.iter + 1, slices_of(data_batch)))
        # MMEngine's logger also writes a line where a pass over few slices ends.
        ends = runner.iter + 1 >= runner.max_iters or self.end_of_epoch(runner.train_dataloader, batch_idx)
        if ends or any((runner.iter + 1) % each == 0 for each in self._intervals):
            self.flush(runner)

    def flush(self, runner: Any) -> None:
        """Hand the terms of all steps since the last time to the message hub, and the norm of the gradients."""
        if self._norm is not None:
            runner.message_hub.update_scalar("train/grad_norm", float(self._norm))
            self._norm = None
        if not self._steps:
            return
        steps, about = torch.stack(self._steps).tolist(), list(self._about)
        self._steps.clear()
        self._about.clear()
        for values, (iteration, slices) in zip(steps, about, strict=True):
            terms = dict(zip(self._names, values, strict=True))
            _check(runner, iteration, terms, slices)
            for name, value in terms.items():
                runner.message_hub.update_scalar(f"train/{name}", value)

    def before_val(self, runner: Any) -> None:
        """Hand on what there is."""
        self.flush(runner)
        super().before_val(runner)


def _check(runner: Any, iteration: int, terms: dict[str, float], slices: list[str]) -> None:
    """Refuse losses that are not finite."""
    for hook in runner.hooks:
        if isinstance(hook, FiniteLossHook):
            hook.check(iteration, terms, slices)
