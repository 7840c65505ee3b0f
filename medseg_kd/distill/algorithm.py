"""The algorithms: a student that learns from its labels and from frozen teachers."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import Tensor, nn

from medseg_kd.distill.distiller import Distiller, build_distiller
from medseg_kd.distill.losses import DistillLoss
from medseg_kd.distill.teacher import Teacher
from medseg_kd.distill.weighting import Weighting
from medseg_kd.errors import UserError
from medseg_kd.models.base import parse_losses
from medseg_kd.models.checkpoint import load_weights
from medseg_kd.models.mmseg_adapter import build_segmentor
from medseg_kd.models.norms import batches_counted_together
from medseg_kd.models.padding import pad_to
from medseg_kd.models.preprocessor import in_words
from medseg_kd.models.resizing import resize
from medseg_kd.registry import MODELS


class Distillation(BaseModel):
    """What the algorithms share; a subclass says in :meth:`make_distiller` who is compared with whom.

    A teacher is in eval mode as a whole, runs under ``no_grad`` and is no submodule: parameters, ``state_dict``,
    optimizer and DDP do not know it, though it follows the student to its device. All see the same batch, padded once
    to what all need. For inference the algorithm is the student.

    Args:
        architecture: The student, a config or a built segmentor.
        teachers: Arguments of each :class:`Teacher`.
        distiller: Config of a distiller.
        teacher_dtype: Precision of their forward passes, ``dtype`` of :class:`Teacher`.
        teacher_compile: Whether these are compiled, its ``compiled``.
        calculate_student_loss: False trains on the distillation losses alone: the student's own are not computed, and
            its auxiliary heads get no gradient.
        data_preprocessor: Replaces the student's.
        teacher_labels: Slices without a label, all pixels of which are ignored, are labelled with the classes that the
            teacher gives them as they come, augmented; of several teachers with those of their mean probability. The
            runner then takes the training cases that have no label too (``with_unlabelled`` of
            :class:`~medseg_kd.datasets.SliceDataset`).

    Attributes:
        tapped_teachers: Name to model, of those that the sources of teacher recorders are looked up in.
        is_measured: Some steps measure gradients, for the weights of losses.
        has_unused_parameters: A step may leave parameters without gradient, which DDP then has to look for.

    Raises:
        UserError: Teacher and student have different regions, numbers of classes or input channels, or the distiller
            does not fit them.
    """

    distiller: Any
    tapped_teachers: dict[str, nn.Module]

    def __init__(
        self,
        architecture: dict[str, Any] | BaseModel,
        teachers: Sequence[dict[str, Any]],
        distiller: dict[str, Any] | None,
        teacher_dtype: str | torch.dtype | None = "auto",
        teacher_compile: bool | dict[str, Any] = False,
        calculate_student_loss: bool = True,
        data_preprocessor: dict[str, Any] | nn.Module | None = None,
        init_cfg: dict | list[dict] | None = None,
        teacher_labels: bool = False,
    ) -> None:
        student = build_segmentor(architecture)
        if isinstance(data_preprocessor, dict):
            data_preprocessor = MODELS.build(data_preprocessor)
        super().__init__(data_preprocessor or student.data_preprocessor, init_cfg)
        student.data_preprocessor = self.data_preprocessor
        self.architecture = student
        self.calculate_student_loss = calculate_student_loss
        self.teacher_labels = teacher_labels
        if teacher_labels:
            self.data_preprocessor.keeps_unlabelled = True
        self.has_unused_parameters = not calculate_student_loss
        # A student starts from the same random numbers here as when it is trained alone.
        with torch.random.fork_rng(devices=[]):
            self.teachers = [Teacher(**each, dtype=teacher_dtype, compiled=teacher_compile) for each in teachers]
            for teacher in self.teachers:
                _check_pair(student, teacher)
            self.running: Sequence[Callable[[Tensor], Any]] = self.teachers
            self.distiller = self.make_distiller(distiller)
            _check_losses(student, self.distiller)
        self._weightings = [each for each in self.distiller.modules() if isinstance(each, Weighting)]
        self._rules = [each.rule for each in self._weightings if each.rule is not None]
        self.is_measured = bool(self._rules)
        if self.is_measured and not calculate_student_loss:
            raise UserError(
                "model.distiller.loss_weight is a share of the gradient of the student's own losses, which "
                "model.calculate_student_loss=False does not compute. Give a number, or leave that out"
            )
        models = (student, *(teacher.model for teacher in self.teachers))
        self._divisor = math.lcm(*(getattr(model, "size_divisor", 1) for model in models))

    @property
    def student(self) -> BaseModel:
        """The segmentor that is trained."""
        return self.architecture

    def set_iteration(self, iteration: int, max_iters: int) -> None:
        """Tell the iteration that comes, counted from 0, and the length of the run, to what follows it."""
        for each in self._weightings:
            each.set_iteration(iteration, max_iters)

    def make_distiller(self, cfg: Any) -> Any:
        """The distiller of the student and its teachers; sets ``tapped_teachers``, and ``running`` to what is run."""
        raise NotImplementedError

    def init_weights(self) -> None:
        """Initialise the student and the connectors, load the teachers and look up anew what is recorded.

        After it a step has nothing left to prepare, so that ``torch.compile`` makes one graph of it.
        """
        super().init_weights()
        self.load_teachers()
        self.distiller.student_recorders.find()
        self.distiller.teacher_recorders.find()

    def load_teachers(self) -> None:
        """Load the weights of the teachers, see :meth:`Teacher.load`."""
        for teacher in self.teachers:
            teacher.load()

    def forward(
        self, inputs: Any, labels: Any = None, meta: Any = None, mode: str = "tensor", soft: Tensor | None = None
    ) -> Any:
        """Mode ``loss`` gives the student's and the distillation losses; the other modes are the student's."""
        if mode == "loss":
            return self.loss(inputs, labels, soft)
        return self.student(inputs, labels, meta, mode=mode)

    def loss(self, inputs: Tensor, labels: Tensor, soft: Tensor | None = None) -> dict[str, Tensor]:
        """Losses of a batch of inputs (N, C, H, W) with labels (N, H, W) uint8.

        A :class:`StoredTeacher` gets ``soft``, probabilities (N, K, H, W), in place of the inputs. The student's losses
        (where they are asked for) have their own names, the distiller's are ``distill.<name>``.
        """
        self.load_teachers()
        size = labels.shape[-2:]
        inputs, labels = self.student.pad(inputs, labels, self._divisor)
        shown = self._probabilities(soft, inputs) if self.teachers[0].is_stored else inputs
        losses: dict[str, Tensor] = {}
        try:
            with self.distiller.teacher_recorders.recording():
                labels = self._run_teachers(shown, labels, size)
            with self.distiller.student_recorders.recording():
                if self.calculate_student_loss:
                    losses = self.student(inputs, labels, mode="loss")
                else:
                    self.student(inputs, mode="tensor")
            own = [value for name, value in losses.items() if "loss" in name] if self.is_measured else []
            with batches_counted_together(self.distiller):
                distilled = self.distiller.weighted_losses(labels, sum(own[1:], own[0]) if own else None)
        finally:
            self.distiller.clear()
        return {**losses, **{f"distill.{name}": value for name, value in distilled.items()}}

    def _run_teachers(self, shown: Tensor, labels: Tensor, size: Sequence[int]) -> Tensor:
        """Run the teachers; the labels (N, H, W), with their classes where a slice has none and they are to label it.

        ``size`` is that before the padding, which stays ignored.
        """
        outputs = [run(shown) for run in self.running]  # (N, classes, h, w)
        if not self.teacher_labels:
            return labels
        ignored, model = self.student.ignore_index, self.teachers[0].model
        logits = [resize(each.float(), labels.shape[-2:])[..., : size[0], : size[1]] for each in outputs]
        mean = torch.stack([model.probabilities(each) for each in logits]).mean(0).logit() if logits[1:] else logits[0]
        classes = model.decode(mean).to(labels.dtype)
        is_unlabelled = (labels == ignored).flatten(1).all(1)[:, None, None]
        return torch.where(is_unlabelled, pad_to(classes, (labels.shape[-2], labels.shape[-1]), ignored), labels)

    @staticmethod
    def _probabilities(soft: Tensor | None, inputs: Tensor) -> Tensor:
        """Probabilities as large as the inputs; padding is labelled as ignored."""
        if soft is None:
            raise UserError(
                "model.teacher is a StoredTeacher, but the batch has no soft labels. A runner gives its folder to "
                "train_dataloader.dataset (soft_labels), whose data_preprocessor has to be a SlicePreprocessor"
            )
        return pad_to(soft, (inputs.shape[-2], inputs.shape[-1]), 0)

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """See :func:`~medseg_kd.models.base.parse_losses`."""
        return parse_losses(self, losses)

    def checkpoint_state(self) -> dict[str, Any]:
        """What a checkpoint holds: the student under ``state_dict``, without prefix, and the ``connectors``.

        With weights that are measured also those, as ``distill_weights``.
        """
        connectors = self.distiller.connectors.state_dict()
        state = {"state_dict": dict(self.student.state_dict()), "connectors": dict(connectors)}
        return {**state, **({"distill_weights": dict(nn.ModuleList(self._rules).state_dict())} if self._rules else {})}

    def load_checkpoint_state(self, checkpoint: Mapping[str, Any], source: str) -> None:
        """Load what :meth:`checkpoint_state` gave, or the checkpoint of a student that was trained alone.

        Raises:
            UserError: Names or shapes differ.
        """
        load_weights(self.student, checkpoint["state_dict"], source)
        if "connectors" in checkpoint:
            load_weights(self.distiller.connectors, checkpoint["connectors"], f"{source} (its connectors)")
        elif len(self.distiller.connectors):
            print_log(f"{source} holds no connectors: those of the distiller stay as they are", "current")
        if self._rules and "distill_weights" in checkpoint:
            measured = nn.ModuleList(self._rules)
            load_weights(measured, checkpoint["distill_weights"], f"{source} (its measured weights of losses)")
            for rule in self._rules:
                rule.is_due = False

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "Distillation":
        """Move or cast the teachers too."""
        for teacher in self.teachers:
            teacher.model._apply(fn, recurse)
        return super()._apply(fn, recurse)


@MODELS.register_module()
class SingleTeacherDistill(Distillation):
    """Distils one teacher into a student; the schema is that of MMRazor's class of this name.

    Args:
        architecture: The student, a config or a built segmentor.
        teacher: The teacher, likewise, or a :class:`StoredTeacher`, which has no ``teacher_ckpt``.
        distiller: Config of a distiller: a method (``dict(type=CWD)``) or a :class:`ConfigurableDistiller`.
        teacher_ckpt: ``ckpt`` of :class:`Teacher`. Read when training starts, so that a test needs no teacher.
        options: Those of :class:`Distillation`, whose errors are raised.
    """

    def __init__(
        self,
        architecture: dict[str, Any] | BaseModel,
        teacher: dict[str, Any] | BaseModel,
        distiller: dict[str, Any],
        teacher_ckpt: str | None = None,
        **options: Any,
    ) -> None:
        self.teacher_ckpt = teacher_ckpt
        super().__init__(architecture, [{"model": teacher, "ckpt": teacher_ckpt}], distiller, **options)

    @property
    def teacher(self) -> BaseModel:
        """The frozen segmentor."""
        return self.teachers[0].model

    def make_distiller(self, cfg: Any) -> Distiller:
        self.tapped_teachers = {} if self.teachers[0].is_stored else {"teacher": self.teacher}
        built = build_distiller(cfg, self.student, self.teacher)
        self.teachers[0].watch(built.teacher_recorders)
        return built


def _check_pair(student: BaseModel, teacher: Teacher) -> None:
    """Refuse a pair that predicts other regions or numbers of classes, or takes other numbers of channels."""
    regions = [getattr(model, "regions", ()) for model in (student, teacher.model)]
    if regions[0] != regions[1]:
        told = [", ".join(f"{n} {list(m)} as {v}" for n, m, v in each) or "none" for each in regions]
        raise UserError(
            f"the student (model.architecture) learns the regions {told[0]}, the teacher ({teacher.source}) {told[1]}. "
            "Make both a RegionSegmentor of the same regions, or neither"
        )
    preprocessors = (getattr(model, "data_preprocessor", None) for model in (student, teacher.model))
    own, its = (getattr(each, "values", None) for each in preprocessors)
    if own is not None and its is not None and own != its:
        raise UserError(
            f"the teacher ({teacher.source}) takes values as its data_preprocessor makes them ({in_words(its)}), but "
            f"gets the student's batch ({in_words(own)}). Give both the data_preprocessor that it was trained with"
        )
    for attribute, does, what in (("num_classes", "predicts", "classes"), ("in_channels", "takes", "input channels")):
        own, other = (getattr(model, attribute, None) for model in (student, teacher.model))
        if own is not None and other is not None and own != other:
            raise UserError(
                f"the student {does} {own} {what} (model.architecture: {attribute}), the teacher {other} "
                f"({teacher.source}). Distil from a teacher that was trained on the student's {what}"
            )


def _check_losses(student: BaseModel, distiller: nn.Module) -> None:
    """Refuse losses that take the outputs of a student for classes where they are regions, or a single one."""
    if getattr(student, "regions", ()):
        outputs = "the outputs of the student, a RegionSegmentor, are regions that overlap"
    elif getattr(student, "num_outputs", None) == 1:
        outputs = "the student has one output, whose softmax is 1 everywhere"
    else:
        return
    for loss in distiller.modules():
        if isinstance(loss, DistillLoss) and loss.softmax_over == (1,):
            raise UserError(
                f"model.distiller: {type(loss).__name__} forms a softmax over classes that exclude each other, but "
                f"{outputs}. Choose one on features (AT, ReviewKD, MGD, CIRKD, AttnFD, IFVD), or CWD"
            )
