"""The distiller: recorders, connectors and losses, wired by a config with MMRazor's schema."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.model import BaseModule, ModuleDict, Sequential
from torch import Tensor, nn

from medseg_kd.distill import mmrazor_bridge
from medseg_kd.distill.recorders import Recorder, build_recorders
from medseg_kd.distill.shapes import ShapeError, connector_for, describe
from medseg_kd.distill.weighting import Weighting, read_weighting
from medseg_kd.errors import UserError, first_line
from medseg_kd.registry import MODELS, build_part

Config = dict[str, Any]
# The keys of a record, and whether it needs them.
_RECORD_KEYS = {"recorder": True, "from_student": True}
_RECORD_KEYS |= dict.fromkeys(("record_idx", "data_idx", "connector", "connector_idx"), False)
# What PyTorch and losses of others raise on shapes that they cannot work with.
_MISFITS = (RuntimeError, ValueError, TypeError, AttributeError, AssertionError, IndexError)


@dataclass(frozen=True)
class Record:
    """What an argument of a loss gets, with MMRazor's keys.

    It is the item ``data_idx`` of what the call ``record_idx`` of the recorded module gave, and the item
    ``connector_idx`` of what the connector made of it.
    """

    name: str
    recorder: Recorder
    from_student: bool
    record_idx: int = 0
    data_idx: int | None = None
    connector: str | None = None
    connector_idx: int | None = None


class Distiller(BaseModule):
    """Recorders of two models, connectors, and losses on what they record.

    It is built from the models, in which the sources of the recorders are found. MMEngine sums what has "loss" in its
    name for the backward pass: a loss without it is refused. A loss whose ``forward`` takes ``label`` gets the batch's
    labels (N, H, W) without a mapping.

    Args:
        student_recorders: Name to recorder config.
        teacher_recorders: Likewise.
        connectors: Name to connector config, or to a list of them that are applied in turn.
        distill_losses: Name to loss config; of MMRazor's too, as of its connectors, with ``type='mmrazor.<Name>'``.
        loss_forward_mappings: For each loss, its forward argument to the :class:`Record` that it gets. A subclass that
            has a ``compute_distill_losses`` of its own needs none.

    Raises:
        UserError: A part of the config cannot be built, a source or a name in a mapping does not exist, or a loss would
            not be trained on.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        student_recorders: Mapping[str, Config] | None = None,
        teacher_recorders: Mapping[str, Config] | None = None,
        connectors: Mapping[str, Config | Sequence[Config]] | None = None,
        distill_losses: Mapping[str, Config] | None = None,
        loss_forward_mappings: Mapping[str, Mapping[str, Config]] | None = None,
    ) -> None:
        super().__init__()
        self.weighting: Weighting | None = None
        self.student_recorders = build_recorders(student_recorders, student, "student_recorders")
        self.teacher_recorders = build_recorders(teacher_recorders, teacher, "teacher_recorders")
        connectors, losses = connectors or {}, distill_losses or {}
        self.connectors = ModuleDict({n: _build_connector(cfg, f"connectors.{n}") for n, cfg in connectors.items()})
        self.distill_losses = ModuleDict({n: _build(cfg, f"distill_losses.{n}") for n, cfg in losses.items()})
        for name in self.distill_losses:
            if "loss" not in name:
                raise UserError(
                    f"distill_losses.{name} would be logged but not trained on: only names with 'loss' in them are "
                    f"summed. Call it loss_{name}, in distill_losses and in loss_forward_mappings"
                )
        modules = self.distill_losses.items()
        self._labelled = {name for name, loss in modules if "label" in inspect.signature(loss.forward).parameters}
        self.records = self._read(loss_forward_mappings or {})
        for record in (record for records in self.records.values() for record in records.values()):
            if record.connector is not None and not record.from_student:
                mmrazor_bridge.set_margin(self.connectors[record.connector], teacher, record.recorder.source)

    def compute_distill_losses(self, label: Tensor | None = None) -> dict[str, Tensor]:
        """Scalars by their names, of what the recorders hold and of the batch's labels (N, H, W)."""
        return {name: self._compute(name, label) for name in self.records}

    def weighted_losses(self, label: Tensor | None, own: Tensor | None) -> dict[str, Tensor]:
        """The losses as :attr:`weighting` weighs them; ``own`` is the sum of the student's."""
        losses = self.compute_distill_losses(label)
        return losses if self.weighting is None else self.weighting(losses, own, self._taps(losses))

    def _taps(self, losses: Iterable[str]) -> dict[str, list[Tensor]]:
        """For each loss the student's tensors that it is computed from."""
        everything = [each for recorder in self.student_recorders.recorders.values() for each in recorder.records]
        taps = {}
        for name in losses:
            records = [each for each in self.records.get(name, {}).values() if each.from_student]
            found = [each.recorder.get(each.record_idx, each.data_idx) for each in records] or everything
            tensors = [each for one in found for each in (one if isinstance(one, (list, tuple)) else [one])]
            taps[name] = [each for each in tensors if isinstance(each, Tensor) and each.requires_grad]
        return taps

    def clear(self) -> None:
        """Let go of the recorded features of both models."""
        self.student_recorders.clear()
        self.teacher_recorders.clear()

    def _compute(self, name: str, label: Tensor | None) -> Tensor:
        """One loss; what cannot be compared is told with its places, shapes and the connector that fits."""
        loss, records = self.distill_losses[name], self.records[name]
        raw = {key: record.recorder.get(record.record_idx, record.data_idx) for key, record in records.items()}
        arguments = {key: self._connected(name, key, raw) for key in records}
        labelled = {"label": label} if name in self._labelled else {}
        try:
            return loss(**{**labelled, **arguments})
        except ShapeError as error:
            told = self._misfit(name, error.reason, raw, self._given(name, arguments), error.same_size)
            raise UserError(told) from error
        except UserError as error:
            raise UserError(f"distill_losses.{name} ({self._given(name, arguments)}): {error}") from error
        except _MISFITS as error:
            its_own = mmrazor_bridge.is_mmrazor(loss)
            if isinstance(error, torch.OutOfMemoryError) or not (its_own or _differ(arguments.values())):
                raise
            reason = ("MMRazor's " if its_own else "") + f"{type(loss).__name__} says: {first_line(error)}"
            told = self._misfit(name, reason, raw, self._given(name, arguments))
            hint = ". docs/mmrazor.md says which of MMRazor's losses take feature maps" if its_own else ""
            raise UserError(told + hint) from error

    def _connected(self, name: str, key: str, raw: Config) -> Any:
        """A record of a loss after its connector."""
        record, data = self.records[name][key], raw[key]
        if record.connector is not None:
            try:
                data = self.connectors[record.connector](data)
            except _MISFITS as error:
                if isinstance(error, torch.OutOfMemoryError):
                    raise
                refused = f"connector {record.connector!r} does not take the {key}'s {describe(data)}"
                told = self._misfit(name, f"{refused}: {first_line(error)}", raw, self._given(name, raw, False), False)
                raise UserError(told) from error
        return data if record.connector_idx is None else data[record.connector_idx]

    def _misfit(self, name: str, reason: str, raw: Config, given: str, same_size: bool = True) -> str:
        """Why a loss failed, on what, and what would make it fit."""
        told, where = f"distill_losses.{name}: {reason}. It got {given}", f"loss_forward_mappings.{name}"
        if several := next((key for key, data in raw.items() if _has_items(data)), None):
            return f"{told}. Choose one item with data_idx in {where}.{several}"
        own = [(key, record) for key, record in self.records[name].items() if record.from_student]
        others = [key for key, record in self.records[name].items() if not record.from_student]
        if len(own) == len(others) == 1 and (fits := connector_for(raw[own[0][0]], raw[others[0]], same_size)):
            key, record = own[0]
            told += f". What fits is connectors=dict({record.connector or record.name}={fits})"
            told += "" if record.connector else f", with connector={record.name!r} in {where}.{key}"
        return told

    def _given(self, name: str, values: Config, connected: bool = True) -> str:
        """The arguments of a loss with their shapes and places, in words."""
        parts = []
        for key, record in self.records[name].items():
            through = f" through connector {record.connector!r}" if connected and record.connector else ""
            place = f"the {'student' if record.from_student else 'teacher'}'s {record.recorder.source}{through}"
            parts.append(f"{key} {describe(values[key])} from {place}")
        return ", ".join(parts)

    def _read(self, mappings: Mapping[str, Mapping[str, Config]]) -> dict[str, dict[str, Record]]:
        """The mappings, checked before anything runs: each loss has one, and all names in them exist."""
        records = {}
        for name, mapping in mappings.items():
            where = f"loss_forward_mappings.{name}"
            _check_known(name, self.distill_losses, "loss_forward_mappings", "distill_losses")
            kind = type(self.distill_losses[name]).__name__
            parameters = inspect.signature(self.distill_losses[name].forward).parameters.values()
            keys = {each.name: each.default is each.empty and "VAR" not in each.kind.name for each in parameters}
            _check_keys(mapping, keys, where, kind, f"the arguments of {kind}")
            records[name] = {key: self._record(cfg, f"{where}.{key}") for key, cfg in mapping.items()}
        missing = next((name for name in self.distill_losses if name not in records), None)
        if missing and type(self).compute_distill_losses is Distiller.compute_distill_losses:
            raise UserError(f"distill_losses.{missing} has no entry in loss_forward_mappings, so it gets no input")
        return records

    def _record(self, cfg: Config, where: str) -> Record:
        """One entry of a mapping, checked."""
        _check_keys(cfg, _RECORD_KEYS, where, "a record", "its keys")
        name, from_student = cfg["recorder"], cfg["from_student"]
        if not isinstance(from_student, bool):
            raise UserError(f"{where}.from_student is {from_student!r}, expected True or False")
        manager = self.student_recorders if from_student else self.teacher_recorders
        _check_known(name, manager.recorders, where, f"{'student' if from_student else 'teacher'}_recorders")
        if cfg.get("connector") is not None:
            _check_known(cfg["connector"], self.connectors, where, "connectors")
        return Record(name, **{**cfg, "recorder": manager.recorders[name]})


@MODELS.register_module()
class ConfigurableDistiller(Distiller):
    """Says by its config alone which loss gets what; the schema is that of MMRazor 1.0's class of this name.

    docs/mmrazor.md has an example.
    """


def build_distiller(cfg: Any, student: nn.Module, teacher: nn.Module, where: str = "model.distiller") -> Distiller:
    """The distiller of two models; an error names the place ``where``.

    Beside the arguments of its type it takes ``weight_schedule``, those of a :class:`WeightSchedule`, and a
    :class:`GradientShare` as its ``loss_weight``.
    """
    schedule = rule = None
    if isinstance(cfg, Mapping):
        cfg, schedule, rule = read_weighting(cfg, where)
    built = build_part(cfg, where, student=student, teacher=teacher)
    if schedule is not None or rule is not None:
        built.weighting = Weighting(schedule, rule, list(built.distill_losses))
    for loss in built.distill_losses.values() if rule is not None else ():
        loss.loss_weight = 1.0  # the rule's is the only one
    return built


def _build(cfg: Any, where: str) -> nn.Module:
    """Build a loss or connector."""
    return mmrazor_bridge.adapt(build_part(cfg, where))


def _build_connector(cfg: Config | Sequence[Config], where: str) -> nn.Module:
    """Build a connector; a list of configs gives a sequence."""
    if isinstance(cfg, (list, tuple)):
        return Sequential(*(_build(each, f"{where}[{index}]") for index, each in enumerate(cfg)))
    return _build(cfg, where)


def _differ(arguments: Iterable[Any]) -> bool:
    """Whether the shapes of a loss's arguments may be why it failed."""
    arguments = list(arguments)
    shapes = {argument.shape for argument in arguments if isinstance(argument, Tensor)}
    return len(shapes) > 1 or any(map(_has_items, arguments))


def _has_items(record: Any) -> bool:
    """Whether a record is several tensors, of which a loss may want one."""
    return isinstance(record, (list, tuple)) and any(isinstance(item, Tensor) for item in record)


def _check_known(name: str, names: Iterable[str], where: str, what: str) -> None:
    """Refuse a name that is not among ``names``."""
    names = list(names)
    if name not in names:
        raise UserError(f"{where}: {name!r} is not among {what} ({', '.join(names) or 'none are given'})")


def _check_keys(given: Iterable[str], keys: Mapping[str, bool], where: str, whose: str, what: str) -> None:
    """Refuse a key that is not among ``keys``, and the lack of one that is needed there."""
    for key in given:
        _check_known(key, keys, where, what)
    if missing := [key for key, is_needed in keys.items() if is_needed and key not in given]:
        raise UserError(f"{where}: {whose} also needs {', '.join(missing)}")
