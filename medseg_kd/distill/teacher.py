"""A teacher: a frozen segmentor that runs for its recorders."""

import inspect
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import Tensor, nn

from medseg_kd.distill.recorders import RecorderManager
from medseg_kd.distill.stored import StoredTeacher
from medseg_kd.errors import UserError
from medseg_kd.models.checkpoint import load_weights, read_checkpoint, resolve_checkpoint
from medseg_kd.models.mmseg_adapter import build_segmentor
from medseg_kd.models.networks.resnet_v2 import StdConv2d
from medseg_kd.models.norms import GroupNorm
from medseg_kd.models.precision import native_dtype, native_dtype_reason

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_DTYPES |= {str(dtype).removeprefix("torch."): dtype for dtype in _DTYPES.values()}
_CAST = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear, GroupNorm)
"""Whose weights autocast would cast in every step, and nothing else is done with: theirs are cast once. And the group
norm that then takes and gives that precision."""


class Teacher:
    """A frozen segmentor; being no module, it is in no ``parameters()``, ``state_dict()``, optimizer or DDP.

    Args:
        model: A config, ``dict(cfg_path=...)`` or a built segmentor.
        ckpt: A run folder (its last checkpoint is taken), a checkpoint, or an address; read by :meth:`load`. None
            leaves a built segmentor as it is; one from a config gets the weights that its config names.
        key: The entry of the config that ``ckpt`` comes from, for messages.
        dtype: Precision of the forward pass: ``bf16``, ``fp16``, ``fp32``, or None for that of the surroundings;
            ``auto`` is what a GPU does natively (``bf16``, else ``fp16``), None on the CPU.
        compiled: True runs the forward pass through ``torch.compile``; a dict holds its options.

    Attributes:
        checkpoint_meta: ``meta`` of the checkpoint that :meth:`load` has read; empty where there is none.
        source: Where the weights come from, in words.
        is_stored: It is a :class:`StoredTeacher`: it takes the probabilities of a batch in place of its images.
    """

    def __init__(
        self,
        model: dict[str, Any] | BaseModel,
        ckpt: str | None = None,
        key: str = "model.teacher_ckpt",
        dtype: str | torch.dtype | None = "auto",
        compiled: bool | dict[str, Any] = False,
    ) -> None:
        self.model = build_segmentor(model).eval().requires_grad_(False)
        self.ckpt = ckpt
        self.checkpoint_meta: dict[str, Any] = {}
        self._key = key
        self._dtype = _find_dtype(dtype)
        self._is_given = isinstance(model, nn.Module)
        self._has_weights = getattr(self.model, "brings_weights", False)
        built_with = "the weights it was built with" if self._is_given else "random weights"
        self.source = ckpt or getattr(self.model, "weights_source", built_with)
        self._is_ready = self.is_stored = isinstance(self.model, StoredTeacher)
        given = {key: ckpt, "model.teacher_dtype": dtype != "auto" and dtype, "model.teacher_compile": compiled}
        if self.is_stored and (without := [name for name, value in given.items() if value not in (None, False)]):
            raise UserError(
                f"{' and '.join(without)}: the teacher is a StoredTeacher, which has no weights and runs nothing. "
                "Leave it out (teacher_ckpt=None), or name a network as teacher"
            )
        if ckpt and self._has_weights:
            raise UserError(
                f"{key} is {ckpt}, but the teacher brings its weights ({self.model.weights_source}): set it to None"
            )
        self.is_compiled = compiled is not False
        self._network_suffices = hasattr(self.model, "network")
        self._run: Callable[[Tensor], Any] = self._forward
        if self.is_compiled:  # it happens at the first call, so that the recorders' hooks are inside
            options = compiled if isinstance(compiled, dict) else {}
            try:
                self._run = torch.compile(self._forward, **options)
            except (TypeError, RuntimeError) as error:
                known = ", ".join(list(inspect.signature(torch.compile).parameters)[1:])
                told = f"model.teacher_compile={options}: {error}. Options of torch.compile: {known}"
                raise UserError(told) from error

    def watch(self, manager: RecorderManager) -> None:
        """Tell what is recorded: where all of it lies in the ``network``, nothing else is run."""
        sources = [recorder.source for recorder in manager.recorders.values()]
        self._network_suffices &= all(source.split(".")[0] == "network" for source in sources)

    def load(self) -> None:
        """Load the weights, once; later calls do nothing. A model that brings its own (nnU-Net's) has them already.

        Raises:
            UserError: The checkpoint is missing or belongs to another network.
        """
        if self._is_ready:
            return
        if self.ckpt is not None:
            path = find_weights(self.ckpt)
            checkpoint = read_checkpoint(path)
            load_weights(self.model, checkpoint["state_dict"], f"the teacher's checkpoint {path}")
            self.checkpoint_meta = dict(checkpoint.get("meta", {}))
            print_log(f"Teacher loaded from {path}", "current")
        elif not (self._is_given or self._has_weights):
            self.model.init_weights()
            print_log(
                f"{self._key} is not set, so the teacher has the weights that its own config gives it: unless they are "
                f"trained ones, it teaches noise. Set {self._key} to its run folder under work_dirs/",
                "current",
                logging.WARNING,
            )
        device = next(self.model.parameters()).device
        if self._dtype == "auto" and device.type != "cpu":
            print_log(f"The teacher runs in {native_dtype_reason(device)}", "current")
        if not self._is_given:
            dtype = self._computed_in(device)
            for module in self.model.modules():
                if isinstance(module, StdConv2d):
                    module.fix(dtype)
                elif dtype is not None and type(module) in _CAST:
                    module.to(dtype)
        self._is_ready = True

    @torch.no_grad()
    def __call__(self, inputs: Tensor) -> Tensor:
        """Run for the recorders on (N, C, H, W), divisible by what the model needs.

        Returns logits (N, classes, h, w), at the native resolution where recorders need no more than the network.
        """
        with self.precision(inputs.device):
            output = self._run(inputs)
        return output[0] if isinstance(output, (list, tuple)) else output

    def precision(self, device: torch.device) -> AbstractContextManager:
        """Autocast, or none; once the weights are loaded the model runs within it."""
        dtype = self._computed_in(device)
        if dtype is None:
            return nullcontext()
        return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)

    def _computed_in(self, device: torch.device) -> torch.dtype | None:
        """The precision on a device; None for that of the surroundings."""
        if self._dtype != "auto":
            return self._dtype
        native = torch.float32 if device.type == "cpu" else native_dtype(device)
        return None if native == torch.float32 else native

    def _forward(self, inputs: Tensor) -> Any:
        return self.model.network(inputs) if self._network_suffices else self.model(inputs, mode="tensor")


def find_weights(ckpt: str) -> str:
    """The checkpoint that a config names: an address as it is, of a run folder the last one.

    Raises:
        UserError: It is not there; the message names the command that trains it.
    """
    return ckpt if "://" in ckpt else str(resolve_checkpoint(ckpt))


def _find_dtype(dtype: Any) -> Any:
    """The precision that a config names: a dtype, ``auto`` or None."""
    if dtype in (None, "auto"):
        return dtype
    if (name := str(dtype).removeprefix("torch.")) not in _DTYPES:
        raise UserError(f"model.teacher_dtype is {dtype!r}, expected auto, None or one of {', '.join(_DTYPES)}")
    return _DTYPES[name]
