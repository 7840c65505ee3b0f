"""Numbers that are not finite: a training that diverges stops, and nothing of it is saved."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from torch import Tensor

from medseg_kd.errors import UserError, some
from medseg_kd.registry import HOOKS

_SHOWN = 8


class DivergedError(UserError):
    """A loss, a gradient or a weight is not finite."""

    exit_code = 1


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stops a training whose loss is not finite, and saves no checkpoint with weights that are not.

    Every run has it. On a GPU the losses are looked at where the log reads them and before a checkpoint, on the CPU
    after each step; so the last checkpoint is of a time when all was well.

    Args:
        skip: Steps of the whole training that may be left out because their gradients are not finite, before it stops.
            With it, the host waits for a GPU in each step. Running statistics of norms have taken part in such a step.
            The scaler of fp16 leaves out, uncounted, the steps whose gradients overflow.

    Raises:
        DivergedError: The message names the iteration, the terms and the slices of the batch.
    """

    # Before the hooks that save and validate.
    priority = "VERY_HIGH"

    def __init__(self, skip: int = 0) -> None:
        self.skip = skip
        self._left_out: list[int] = []

    def before_train(self, runner: Any) -> None:
        """Look at the gradients before each update, where some may be left out."""
        scaler = getattr(runner.optim_wrapper, "scaler", getattr(runner.optim_wrapper, "loss_scaler", None))
        if not self.skip or (scaler is not None and scaler.is_enabled()):
            return
        if getattr(runner.optim_wrapper, "_accumulative_counts", 0) != 1:
            raise UserError("FiniteLossHook: skip is for one optimizer with accumulative_counts=1: leave it out")
        update = runner.optim_wrapper.step

        def update_where_finite(**options: Any) -> None:
            groups = runner.optim_wrapper.optimizer.param_groups
            gradients = [each.grad for group in groups for each in group["params"] if each.grad is not None]
            if torch.nn.utils.get_total_norm(gradients).isfinite().item():
                update(**options)
            else:
                self._left_out.append(runner.iter + 1)

        runner.optim_wrapper.step = update_where_finite

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Count a step that was left out."""
        if runner.iter + 1 not in self._left_out[-1:]:
            return
        where = f"iteration {runner.iter + 1}: the gradients are not finite{of_slices(slices_of(data_batch))}"
        if len(self._left_out) > self.skip:
            before = f"{self.skip} such steps were left out before, as FiniteLossHook's skip allows"
            raise DivergedError(f"{where}. {before}. {_ADVICE}")
        runner.logger.warning(f"{where}; the step is left out, {len(self._left_out)} of {self.skip}")

    def check(self, iteration: int, terms: Mapping[str, float], slices: Sequence[str]) -> None:
        """Refuse losses of an iteration that are not finite, unless its step was left out."""
        if iteration in self._left_out or all(map(math.isfinite, terms.values())):
            return
        told = ", ".join(f"{name} {value:.4g}" for name, value in terms.items())
        raise DivergedError(
            f"iteration {iteration}: the loss is not finite ({told}){of_slices(slices)}. Nothing of it is saved. "
            f"{_ADVICE}"
        )

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Refuse weights that are not finite, whatever made them so."""
        weights = {**checkpoint.get("state_dict", {}), **checkpoint.get("connectors", {})}
        if odd := not_finite(weights):
            raise DivergedError(
                f"iteration {checkpoint['meta'].get('iter')}: {len(odd)} of {len(weights)} weights are not finite "
                f"({', '.join(odd[:_SHOWN])}). No checkpoint is saved. {_ADVICE}"
            )


_ADVICE = (
    "Go on from an earlier checkpoint, or start anew, with a lower learning rate or with "
    "optim_wrapper.clip_grad=dict(max_norm=1)"
)


def not_finite(weights: Mapping[str, Any]) -> list[str]:
    """Names of the weights that have values which are not finite; a GPU is waited for once."""
    names = [
        name
        for name, value in weights.items()
        if isinstance(value, Tensor) and (value.is_floating_point() and len(value.flatten()))
    ]
    if not names:
        return []
    are_finite = torch.stack([weights[name].isfinite().all() for name in names]).tolist()
    return [name for name, is_finite in zip(names, are_finite, strict=True) if not is_finite]


def slices_of(batch: Any) -> list[str]:
    """The slices of a batch, in words; empty where it does not name them."""
    meta = batch.get("meta") if isinstance(batch, Mapping) else None
    return [f"{each.get('case_name')} slice {each.get('slice_index')}" for each in meta or () if "case_name" in each]


def of_slices(slices: Sequence[str]) -> str:
    """The end of a sentence about a batch."""
    return f", in a batch of {some(slices, _SHOWN)}" if slices else ""
