"""The algorithm: a student that learns from its labels and from one frozen teacher."""

import logging
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from medseg_kd.distill.distiller import ConfigurableDistiller
from medseg_kd.errors import UserError
from medseg_kd.models.checkpoint import load_weights, read_checkpoint, resolve_checkpoint
from medseg_kd.models.segmentor import stack_labels
from medseg_kd.registry import MODELS

_DTYPES = {
    "bf16": torch.bfloat16,
    "bfloat16": torch.bfloat16,
    "fp16": torch.float16,
    "float16": torch.float16,
}


@MODELS.register_module()
class SingleTeacherDistill(BaseModel):
    """Distils one teacher into a student; the schema is that of MMRazor's class of this name.

    The teacher is in eval mode as a whole, runs under ``no_grad`` and is no submodule: parameters, ``state_dict``,
    optimizer and DDP do not know it, though it follows the student to its device. Both see the same batch, padded
    once to what both need. For inference the algorithm is the student.

    Args:
        architecture: The student, a config or a built segmentor.
        teacher: The teacher, likewise.
        distiller: Config of a distiller: a method (``dict(type=CWD)``) or a :class:`ConfigurableDistiller`.
        teacher_ckpt: A run folder (its last checkpoint is taken) or a checkpoint. Read when training starts, so that
            a test needs no teacher. None leaves the teacher as it was built.
        teacher_dtype: ``bf16`` or ``fp16`` runs the teacher under autocast; None as the surroundings say.
        calculate_student_loss: False leaves the student's own losses out of the sum.
        data_preprocessor: Replaces the student's.

    Raises:
        UserError: Teacher and student have different numbers of classes, or the distiller does not fit them.
    """

    def __init__(
        self,
        architecture: dict[str, Any] | BaseModel,
        teacher: dict[str, Any] | BaseModel,
        distiller: dict[str, Any] | ConfigurableDistiller,
        teacher_ckpt: str | None = None,
        teacher_dtype: str | torch.dtype | None = None,
        calculate_student_loss: bool = True,
        data_preprocessor: dict[str, Any] | nn.Module | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        student = _build_segmentor(architecture)
        if isinstance(data_preprocessor, dict):
            data_preprocessor = MODELS.build(data_preprocessor)
        super().__init__(data_preprocessor or student.data_preprocessor, init_cfg)
        student.data_preprocessor = self.data_preprocessor
        self.architecture = student
        # A student starts from the same random numbers here as when it is trained alone.
        with torch.random.fork_rng(devices=[]):
            self._teacher = [_freeze(_build_segmentor(teacher))]
            self.distiller: ConfigurableDistiller = (
                distiller if isinstance(distiller, nn.Module) else MODELS.build(dict(distiller))
            )
            _check_classes(self.student, self.teacher)
            self.distiller.attach(self.student, self.teacher)
        self.teacher_ckpt = teacher_ckpt
        self.teacher_dtype = _dtype(teacher_dtype)
        self.calculate_student_loss = calculate_student_loss
        self._teacher_is_given = isinstance(teacher, nn.Module)
        self._teacher_is_ready = False
        self._divisor = math.lcm(*(getattr(model, "size_divisor", 1) for model in (self.student, self.teacher)))
        sources = [recorder.source for recorder in self.distiller.teacher_recorders.recorders.values()]
        self._network_suffices = all(source.split(".")[0] == "network" for source in sources)

    @property
    def student(self) -> BaseModel:
        """The segmentor that is trained."""
        return self.architecture

    @property
    def teacher(self) -> BaseModel:
        """The frozen segmentor."""
        return self._teacher[0]

    @property
    def tapped_teachers(self) -> dict[str, nn.Module]:
        """Name to model, of the models that the sources of teacher recorders are looked up in."""
        return {"teacher": self.teacher}

    def init_weights(self) -> None:
        """Initialise the student and the connectors, then load the teacher."""
        super().init_weights()
        self.load_teacher()

    def load_teacher(self) -> None:
        """Load the teacher's weights, once; later calls do nothing.

        Raises:
            UserError: The checkpoint is missing or belongs to another network.
        """
        if self._teacher_is_ready:
            return
        if self.teacher_ckpt is not None:
            path = self.teacher_ckpt if "://" in self.teacher_ckpt else str(resolve_checkpoint(self.teacher_ckpt))
            load_weights(self.teacher, read_checkpoint(path)["state_dict"], f"the teacher's checkpoint {path}")
            print_log(f"Teacher loaded from {path}", "current")
        elif not self._teacher_is_given:
            self.teacher.init_weights()
            print_log(
                "model.teacher_ckpt is not set, so the teacher has the weights that its own config gives it: unless "
                "they are trained ones, it teaches noise. Set model.teacher_ckpt to its run folder under work_dirs/",
                "current",
                logging.WARNING,
            )
        self._teacher_is_ready = True

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = "tensor") -> Any:
        """Mode ``loss`` gives the student's and the distillation losses; the other modes are the student's."""
        if mode == "loss":
            return self.loss(inputs, data_samples)
        return self.student(inputs, data_samples, mode=mode)

    def loss(self, inputs: Tensor, data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            inputs: (N, 1, H, W).
            data_samples: N samples with ``gt_sem_seg``; padded with the images where that is needed.

        Returns:
            The student's losses under their own names, the distiller's as ``distill.<name>``.
        """
        self.load_teacher()
        inputs, data_samples = self._pad(inputs, data_samples)
        try:
            with self.distiller.teacher_recorders:
                self._run_teacher(inputs)
            with self.distiller.student_recorders:
                losses = self.student(inputs, data_samples, mode="loss")
            distilled = self.distiller.compute_distill_losses(stack_labels(data_samples))
        finally:
            self.distiller.clear()
        if not self.calculate_student_loss:
            losses = {}
        return {**losses, **{f"distill.{name}": value for name, value in distilled.items()}}

    def checkpoint_state(self) -> dict[str, Any]:
        """What a checkpoint holds: the student under ``state_dict``, without prefix, and the ``connectors``."""
        return {
            "state_dict": dict(self.student.state_dict()),
            "connectors": dict(self.distiller.connectors.state_dict()),
        }

    def load_checkpoint_state(self, checkpoint: Mapping[str, Any], source: str) -> None:
        """Load what :meth:`checkpoint_state` gave, or the checkpoint of a student that was trained alone.

        Args:
            checkpoint: With ``state_dict``, and ``connectors`` where it comes from a distillation.
            source: Where it comes from, for messages.

        Raises:
            UserError: Names or shapes differ.
        """
        load_weights(self.student, checkpoint["state_dict"], source)
        if "connectors" in checkpoint:
            load_weights(self.distiller.connectors, checkpoint["connectors"], f"{source} (its connectors)")
        elif len(self.distiller.connectors):
            print_log(f"{source} holds no connectors: those of the distiller stay as they are", "current")

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "SingleTeacherDistill":
        """Move or cast the teacher too."""
        self.teacher._apply(fn, recurse)
        return super()._apply(fn, recurse)

    @torch.no_grad()
    def _run_teacher(self, inputs: Tensor) -> None:
        """Forward pass of the teacher for its recorders: only the network where they need no more than that."""
        dtype = self.teacher_dtype
        with torch.autocast(inputs.device.type, dtype=dtype) if dtype else nullcontext():
            if self._network_suffices and hasattr(self.teacher, "network"):
                self.teacher.network(inputs)
            else:
                self.teacher(inputs, mode="tensor")

    def _pad(self, inputs: Tensor, data_samples: list[SegDataSample]) -> tuple[Tensor, list[SegDataSample]]:
        """Pad the batch once to what both models need."""
        if all(size % self._divisor == 0 for size in inputs.shape[-2:]):
            return inputs, data_samples
        if not hasattr(self.student, "pad"):
            raise UserError(
                f"teacher and student need image sizes divisible by {self._divisor}, but got "
                f"{tuple(inputs.shape[-2:])}, and {type(self.student).__name__} cannot pad. Set size_divisor in its "
                "data_preprocessor"
            )
        return self.student.pad(inputs, data_samples, self._divisor)


def _build_segmentor(model: dict[str, Any] | BaseModel) -> BaseModel:
    """Build a segmentor; ``dict(cfg_path=...)`` names a config file whose ``model`` is taken, as in MMRazor."""
    if isinstance(model, nn.Module):
        return model
    if "cfg_path" in model:
        model = Config.fromfile(model["cfg_path"]).model
    return MODELS.build(model)


def _freeze(teacher: BaseModel) -> BaseModel:
    return teacher.eval().requires_grad_(False)


def _check_classes(student: BaseModel, teacher: BaseModel) -> None:
    """Refuse a pair that predicts different numbers of classes."""
    own, other = (getattr(model, "num_classes", None) for model in (student, teacher))
    if own is not None and other is not None and own != other:
        raise UserError(
            f"the student predicts {own} classes (model.architecture.num_classes), the teacher {other} "
            "(model.teacher.num_classes). Distil from a teacher that was trained on the student's classes"
        )


def _dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """The precision that a config names."""
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in _DTYPES:
        raise UserError(f"model.teacher_dtype is {dtype!r}, expected one of {', '.join(_DTYPES)}")
    return _DTYPES[dtype]
