"""A training step as one CUDA graph, launched whole instead of kernel by kernel."""

import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import Tensor

from medseg_kd.errors import UserError, first_line

SMALL_BATCH = 4
"""Up to here launching takes longer than computing, for most networks."""
_WARM_UP = 3
_KNOWN = {"medseg_kd", "torch", "mmengine", "mmcv", "mmseg", "monai", "functools", "builtins"}
_KNOWN |= {"dynamic_network_architectures"}


class GraphedStep:
    """Takes the place of a model's ``train_step``: the first steps run as ever, then one is captured and replayed.

    In the graph are the forward pass (a teacher's too), the losses and the backward pass. Preprocessing stays
    outside, as its random draws come from the CPU, and so does the optimizer, so that any of them works: clipping
    and learning rates are Python's. A batch of another shape runs without the graph. When the capture fails, as where
    a loss reads a value back, the log says so once and training goes on without.

    Args:
        model: On its device.
    """

    def __init__(self, model: BaseModel) -> None:
        self.model = model
        self.is_off = False
        self._stream = torch.cuda.Stream()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._steps = 0
        self._inputs: dict[str, Tensor] = {}
        self._gradients: list[tuple[Tensor, Tensor]] = []
        self._log: dict[str, Tensor] = {}

    def __call__(self, data: dict[str, Any], optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """One training step on a batch; see ``BaseModel.train_step``.

        Returns:
            Loss and its terms on the device; those of a graph are overwritten by the next step.
        """
        with optim_wrapper.optim_context(self.model):
            data = self.model.data_preprocessor(data, True)
        batch = {key: value for key, value in data.items() if isinstance(value, Tensor)}
        if self._graph is None and not self.is_off and self._steps >= _WARM_UP:
            self._capture(batch, optim_wrapper)
        if self._graph is None or not self._fits(batch):
            return self._step(data, optim_wrapper)
        for key, given in batch.items():
            self._inputs[key].copy_(given, non_blocking=True)
        self._graph.replay()
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        optim_wrapper.step()
        return self._log

    def _step(self, data: dict[str, Any], optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """A step without a graph; before the capture on its stream, as PyTorch asks."""
        self._steps += 1
        optim_wrapper.zero_grad()  # a replay leaves its gradients
        if self.is_off or self._graph is not None:
            loss, log = self._losses(data, optim_wrapper)
            optim_wrapper.update_params(loss)
            return log
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            loss, log = self._losses(data, optim_wrapper)
            optim_wrapper.update_params(loss)
        torch.cuda.current_stream().wait_stream(self._stream)
        return log

    def _losses(self, data: dict[str, Any], optim_wrapper: OptimWrapper) -> tuple[Tensor, dict[str, Tensor]]:
        with optim_wrapper.optim_context(self.model):
            losses = self.model(**data, mode="loss")
        return self.model.parse_losses(losses)

    def _fits(self, batch: dict[str, Tensor]) -> bool:
        """Whether the graph was captured for batches of this form."""
        own, its = ({k: (each.shape, each.dtype) for k, each in part.items()} for part in (self._inputs, batch))
        return own == its

    def _capture(self, batch: dict[str, Tensor], optim_wrapper: OptimWrapper) -> None:
        """Record a step, which computes nothing yet."""
        optim_wrapper.zero_grad()
        inputs = {key: value.clone() for key, value in batch.items()}
        graph = torch.cuda.CUDAGraph()
        generator = torch.cuda.default_generators[batch["inputs"].device.index]
        numbers = generator.clone_state()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                data = {"meta": None, **inputs}
                loss, log = self._losses(data, optim_wrapper)
                optim_wrapper.backward(optim_wrapper.scale_loss(loss))
        except Exception as error:  # whatever a model does that a capture forbids
            self.is_off = True
            generator.graphsafe_set_state(numbers)  # a capture that failed keeps the generator's own to itself
            optim_wrapper.zero_grad()
            print_log(f"training goes on without a CUDA graph, which could not be captured: {_cause(error)}", "current")
            return
        parameters = (each for group in optim_wrapper.param_groups for each in group["params"])
        self._gradients = [(each, each.grad) for each in parameters if each.grad is not None]
        self._graph, self._inputs, self._log = graph, inputs, log
        print_log(f"from here on a step is one CUDA graph, for batches of {tuple(batch['inputs'].shape)}", "current")


def _cause(error: BaseException) -> str:
    """Where a capture broke, and why: the first of the errors, as the last tells only that there was one before."""
    while error.__context__ is not None:
        error = error.__context__
    frames = [each for each in traceback.extract_tb(error.__traceback__) if "/torch/" not in each.filename]
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno} `{frames[-1].line}`: " if frames else ""
    return place + first_line(error)


def graphed_step(
    model: Any, optim_wrapper: Any, asked: Any, batch_size: int | None, hooks: Sequence[Any] = ()
) -> GraphedStep | None:
    """The graphed step that a config asks for.

    Args:
        model: The model.
        optim_wrapper: Its optimizer.
        asked: ``cuda_graph`` of the config: True, False, or ``auto``: for batches of at most ``SMALL_BATCH``, where all
            parts come from libraries that are known not to change from step to step.
        batch_size: Slices in a batch.
        hooks: Those of the run.

    Returns:
        None where it is not asked for, or the step is none that could be captured.

    Raises:
        UserError: It is asked for by True and cannot be.
    """
    if asked not in (True, False, "auto"):
        raise UserError(f"cuda_graph is {asked!r}: expected True, False or 'auto'")
    if not asked or (asked == "auto" and (batch_size or SMALL_BATCH + 1) > SMALL_BATCH):
        return None
    if reason := _obstacle(model, optim_wrapper):
        if asked == "auto":
            return None
        raise UserError(f"cuda_graph is True, but {reason}. Leave one of the two out, or set cuda_graph='auto'")
    if asked == "auto" and (unknown := strangers(model, hooks)):
        print_log(
            f"steps are launched kernel by kernel: {', '.join(unknown)} might change from step to step, which a CUDA "
            "graph does not see. If it does not, set cuda_graph=True",
            "current",
        )
        return None
    return GraphedStep(model)


def strangers(model: Any, hooks: Sequence[Any] = ()) -> list[str]:
    """Classes and functions of others in a model, its teachers and hooks.

    Their Python runs once, when a graph is captured: a weight that grows with the iterations would stay as it was.
    """
    models = (model, *(teacher.model for teacher in getattr(model, "teachers", ())))
    parts = [*(module for each in models for module in each.modules()), *hooks]
    held = [value for part in parts for value in vars(part).values() if callable(value)]
    kinds = {each if hasattr(each, "__qualname__") else type(each) for each in (*parts, *held)}
    return sorted(
        f"{kind.__module__}.{kind.__qualname__}" for kind in kinds if kind.__module__.partition(".")[0] not in _KNOWN
    )


def _obstacle(model: Any, optim_wrapper: Any) -> str | None:
    """Why a step cannot be captured, as far as it is known beforehand."""
    if getattr(model, "is_measured", False):
        return "model.distiller.loss_weight is a GradientShare, for which some steps do more than others"
    if not torch.cuda.is_available() or next(model.parameters()).device.type != "cuda":
        return "training runs on no CUDA device"
    if not isinstance(model, BaseModel) or type(model).train_step is not BaseModel.train_step:
        return f"{type(model).__name__} has a training step of its own (several processes have one too)"
    if not isinstance(optim_wrapper, OptimWrapper) or optim_wrapper._accumulative_counts != 1:
        return "gradients are accumulated over batches"
    scaler = getattr(optim_wrapper, "scaler", None)
    if isinstance(optim_wrapper, AmpOptimWrapper) or (scaler is not None and scaler.is_enabled()):
        return "gradients are scaled (fp16), where a step may be left out"
    return None
