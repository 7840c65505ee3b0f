"""Several teachers: one target from the mean of their probabilities, or one loss for each."""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from mmengine.model import BaseModel, BaseModule, ModuleList
from torch import Tensor, nn

from medseg_kd.distill.algorithm import Distillation
from medseg_kd.distill.distiller import Distiller, build_distiller
from medseg_kd.distill.losses import DistillLoss
from medseg_kd.distill.recorders import RecorderManager
from medseg_kd.distill.teacher import Teacher
from medseg_kd.errors import UserError
from medseg_kd.models.resizing import resize
from medseg_kd.registry import MODELS

_KEYS = {"model", "ckpt", "weight", "distiller"}


@MODELS.register_module()
class MultiTeacherDistill(Distillation):
    """Distils several teachers into a student.

    With ``combine='mean'`` the loss sees one teacher, whose distribution is the weighted mean of the distributions that
    the loss would form of each teacher's logits: softmax over classes at the loss's temperature T for KD, DKD and DIST,
    softmax over pixels at T for CWD. (What the loss gets as logits is T times its logarithm, so that its softmax gives
    the mean back.) Logits of unequal size are resized to the largest first, bilinear. A method on features is refused.

    With ``combine='each'`` each teacher has a distiller of its own, with its own connectors; its losses are multiplied
    by the teacher's weight and logged as ``distill.teacher<i>.<name>``.

    Args:
        teachers: For each teacher ``dict(model=..., ckpt=..., weight=1.0)``: a config or a built segmentor, its run
            folder or checkpoint, and its weight, of which ``mean`` takes the share. With ``each`` a teacher may have a
            ``distiller`` of its own.
        distiller: Config of a distiller: a method, or a :class:`ConfigurableDistiller`, whose teacher recorders have
            the sources ``network`` (the mean) and ``teachers.<i>.<path>`` with ``mean``, and paths in each teacher with
            ``each``. May be left out where every teacher has its own.
        combine: ``mean`` or ``each``.

    The other arguments and the errors are those of :class:`SingleTeacherDistill`.
    """

    def __init__(
        self,
        architecture: dict[str, Any] | BaseModel,
        teachers: Sequence[Mapping[str, Any]],
        distiller: dict[str, Any] | None = None,
        combine: str = "mean",
        **options: Any,
    ) -> None:
        _check(teachers, distiller, combine)
        self._is_mean = combine == "mean"
        self._weights = [float(each.get("weight", 1)) for each in teachers]
        self._distillers = [each.get("distiller") for each in teachers]
        arguments = [
            {"model": each["model"], "ckpt": each.get("ckpt"), "key": f"model.teachers[{index}].ckpt"}
            for index, each in enumerate(teachers)
        ]
        super().__init__(architecture, arguments, distiller, **options)

    def make_distiller(self, cfg: Any) -> "Distiller | EachTeacher":
        if any(teacher.is_stored for teacher in self.teachers):
            raise UserError(
                "model.teachers has a StoredTeacher, which teaches alone: store the mean of all (predict.py --ensemble "
                "--probabilities, nnUNetv2_ensemble --save_npz) and write SingleTeacherDistill"
            )
        return self._make_mean(cfg) if self._is_mean else self._make_each(cfg)

    def _make_mean(self, cfg: Any) -> Distiller:
        """One distiller, on the mean of the teachers."""
        mean = MeanTeacher(self.teachers, self._weights).eval()
        try:
            built = build_distiller(cfg, self.student, mean)
        except UserError as error:
            raise UserError(
                f"with combine='mean', one teacher that has logits alone (combine='each' has features): {error}"
            ) from error
        mean.network.over, mean.network.tau = _distribution(built)
        self.tapped_teachers, self.running = {"mean of the teachers": mean}, [mean.network]
        return built

    def _make_each(self, cfg: Any) -> "EachTeacher":
        """A distiller for each teacher."""
        parts = []
        for index, (own, teacher) in enumerate(zip(self._distillers, self.teachers, strict=True)):
            where = "model.distiller" if own is None else f"model.teachers[{index}].distiller"
            parts.append(build_distiller(own or cfg, self.student, teacher.model, where))
            teacher.watch(parts[-1].teacher_recorders)
        self.tapped_teachers = {f"teacher {index}": teacher.model for index, teacher in enumerate(self.teachers)}
        return EachTeacher(parts, self._weights)


class MeanTeacher(nn.Module):
    """What the distiller sees of several teachers: ``network`` gives their mean, ``teachers.<i>`` is each of them."""

    def __init__(self, teachers: Sequence[Teacher], weights: Sequence[float]) -> None:
        super().__init__()
        self.teachers = nn.ModuleList(teacher.model for teacher in teachers)
        self.network = MeanLogits(teachers, weights)

    def forward(self, inputs: Tensor, mode: str = "tensor") -> Tensor:
        """Logits of the mean, (N, C, h, w)."""
        return self.network(inputs)


class MeanLogits(nn.Module):
    """Logits whose distribution, at ``tau`` over the axes ``over``, is the weighted mean of the teachers'."""

    def __init__(self, teachers: Sequence[Teacher], weights: Sequence[float]) -> None:
        super().__init__()
        self._teachers = list(teachers)
        self._log_weights = [math.log(weight / sum(weights)) for weight in weights]
        self.over: tuple[int, ...] = (1,)
        self.tau = 1.0

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (N, C, H, W) to tau * log of the mean of softmax(z / tau), (N, classes, h, w) in float32 or better."""
        logits = [teacher(inputs) for teacher in self._teachers]
        with torch.autocast(inputs.device.type, enabled=False):
            size = [max(lengths) for lengths in zip(*(z.shape[-2:] for z in logits), strict=True)]
            shares = (self._share(*each, size) for each in zip(logits, self._log_weights, strict=True))
            return self.tau * reduce(torch.logaddexp, shares)

    def _share(self, z: Tensor, log_weight: float, size: Sequence[int]) -> Tensor:
        """Logarithm of weight * softmax(z / tau), (N, C, H, W) of that size."""
        z = resize(z.to(torch.promote_types(z.dtype, torch.float32)), size) / self.tau
        return z - z.logsumexp(self.over, keepdim=True) + log_weight


class EachTeacher(BaseModule):
    """A distiller for each teacher, seen as one; their losses are multiplied by the weights."""

    def __init__(self, parts: Sequence[Distiller], weights: Sequence[float]) -> None:
        super().__init__()
        self.parts = ModuleList(parts)
        self.weights = list(weights)
        self.student_recorders = _joined(part.student_recorders for part in parts)
        self.teacher_recorders = _joined(part.teacher_recorders for part in parts)

    @property
    def connectors(self) -> nn.ModuleDict:
        """The connectors of all distillers, as ``teacher<i>.<name>``."""
        named = {f"teacher{index}": part.connectors for index, part in enumerate(self.parts)}
        return nn.ModuleDict({name: connectors for name, connectors in named.items() if len(connectors)})

    def weighted_losses(self, label: Tensor | None, own: Tensor | None) -> dict[str, Tensor]:
        """See :meth:`Distiller.weighted_losses`."""
        return {
            f"teacher{index}.{name}": weight * value
            for index, (part, weight) in enumerate(zip(self.parts, self.weights, strict=True))
            for name, value in part.weighted_losses(label, own).items()
        }

    def clear(self) -> None:
        """Let go of all recorded features."""
        self.student_recorders.clear()
        self.teacher_recorders.clear()


def _joined(managers: Iterable[RecorderManager]) -> RecorderManager:
    """The recorders of each teacher's distiller in one, as ``teacher<i>.<name>``."""
    numbered = enumerate(managers)
    return RecorderManager({f"teacher{i}.{name}": each for i, one in numbered for name, each in one.recorders.items()})


def _distribution(distiller: Distiller) -> tuple[tuple[int, ...], float]:
    """Axes and temperature of the one distribution that the losses on the mean form of its logits."""
    found: dict[tuple[tuple[int, ...], float], str] = {}
    for name, records in distiller.records.items():
        if "network" not in (record.recorder.source for record in records.values() if not record.from_student):
            continue
        loss = distiller.distill_losses[name]
        if not isinstance(loss, DistillLoss) or loss.softmax_over is None or not loss.is_softmax:
            raise UserError(
                f"combine='mean' averages the distributions that a loss forms of the teachers' logits, but {name} "
                f"({type(loss).__name__}) forms no softmax of them. Choose combine='each', or KD, DKD, DIST or CWD"
            )
        found[loss.softmax_over, float(getattr(loss, "tau", 1))] = name
    if len(found) != 1:
        raise UserError(
            "combine='mean' makes one target for losses on the teachers' 'network', but "
            + (f"{' and '.join(found.values())} take other temperatures or axes" if found else "no loss takes it")
            + ". Choose combine='each'"
        )
    return next(iter(found))


def _check(teachers: Any, distiller: Any, combine: str) -> None:
    """Refuse wrong entries."""
    if combine not in ("mean", "each"):
        raise UserError(f"model.combine is {combine!r}, expected 'mean' or 'each'")
    if not isinstance(teachers, (list, tuple)) or not teachers:
        raise UserError("model.teachers: expected a list with dict(model=..., ckpt=..., weight=1.0) for each teacher")
    for index, each in enumerate(teachers):
        where = f"model.teachers[{index}]"
        unknown = None
        if not isinstance(each, Mapping) or "model" not in each or (unknown := next(iter(set(each) - _KEYS), None)):
            told = f"it has no key {unknown!r}" if unknown else "no 'model'"
            raise UserError(f"{where}: {told}; expected dict(model=..., ckpt=..., weight=..., distiller=...)")
        weight = each.get("weight", 1)
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < math.inf:
            raise UserError(f"{where}.weight is {weight!r}, expected a number above 0")
        if combine == "mean" and "distiller" in each:
            raise UserError(f"{where}.distiller: with combine='mean' all teachers share model.distiller")
        if distiller is None and "distiller" not in each:
            raise UserError(f"{where} has no distiller, and model.distiller is not set either")
