"""The distiller: recorders, connectors and losses, wired by a config with MMRazor's schema."""

import inspect
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule, ModuleDict, Sequential
from torch import Tensor, nn

from medseg_kd.distill import mmrazor_bridge
from medseg_kd.distill.building import build_part
from medseg_kd.distill.misfit import MisfitError, connector_for, describe
from medseg_kd.distill.recorders import build_recorders
from medseg_kd.errors import UserError, first_line
from medseg_kd.registry import MODELS

Config = dict[str, Any]
# What PyTorch and losses of others raise on shapes that they cannot work with.
_MISFITS = (RuntimeError, ValueError, TypeError, AttributeError, AssertionError, IndexError)
_RECORD_KEYS = ("recorder", "from_student", "record_idx", "data_idx", "connector", "connector_idx")


class Distiller(BaseModule):
    """Recorders of two models, connectors and losses on what they record; a subclass says which loss gets what.

    It is built from the models: the sources of the recorders are found in them, and the config is checked. MMEngine
    sums what has "loss" in its name for the backward pass: a loss without it is refused.

    Args:
        student: The student.
        teacher: The teacher.
        student_recorders: Name to recorder config, for the student.
        teacher_recorders: The same for the teacher.
        connectors: Name to connector config, or to a list of them that are applied in turn.
        distill_losses: Name to loss config; of MMRazor's too, as of its connectors, with ``type='mmrazor.<Name>'``.

    Raises:
        UserError: A part of the config cannot be built, a source is not there, or a loss would not be trained on.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        student_recorders: Mapping[str, Config] | None = None,
        teacher_recorders: Mapping[str, Config] | None = None,
        connectors: Mapping[str, Config | Sequence[Config]] | None = None,
        distill_losses: Mapping[str, Config] | None = None,
    ) -> None:
        super().__init__()
        self.student_recorders = build_recorders(student_recorders, student, "student_recorders")
        self.teacher_recorders = build_recorders(teacher_recorders, teacher, "teacher_recorders")
        self.connectors = ModuleDict({name: _build_connector(name, cfg) for name, cfg in (connectors or {}).items()})
        self.distill_losses = ModuleDict(
            {name: _build(cfg, f"distill_losses.{name}") for name, cfg in (distill_losses or {}).items()}
        )
        for name in self.distill_losses:
            if "loss" not in name:
                raise UserError(
                    f"distill_losses.{name} would be logged but not trained on: only names with 'loss' in them are "
                    f"summed. Call it loss_{name}, in distill_losses and in loss_forward_mappings"
                )

    def compute_distill_losses(self, label: Tensor | None = None) -> dict[str, Tensor]:
        """Losses on what the recorders hold.

        Args:
            label: Labels of the batch, (N, H, W).

        Returns:
            Name to scalar.
        """
        raise NotImplementedError

    def clear(self) -> None:
        """Let go of the recorded features of both models."""
        self.student_recorders.clear()
        self.teacher_recorders.clear()


def build_distiller(cfg: Any, student: nn.Module, teacher: nn.Module, where: str = "model.distiller") -> Distiller:
    """The distiller of two models.

    Args:
        cfg: ``dict(type=..., **arguments)``: a method or a :class:`ConfigurableDistiller`.
        student: The student.
        teacher: The teacher.
        where: Its place in the config, for messages.

    Raises:
        UserError: It is wrong, or does not fit the models.
    """
    return build_part(cfg, where, student=student, teacher=teacher)


@MODELS.register_module()
class ConfigurableDistiller(Distiller):
    """Computes the losses of a config on what recorders hold; the schema is that of MMRazor 1.0's class of this name.

    A loss whose ``forward`` takes ``label`` gets the batch's labels (N, H, W) without a mapping.

    Args:
        student: The student; like the teacher, it is no part of the config, see :func:`build_distiller`.
        teacher: The teacher.
        student_recorders: See :class:`Distiller`, as for the next three.
        teacher_recorders: Likewise.
        connectors: Likewise.
        distill_losses: Likewise.
        loss_forward_mappings: For each loss, its forward argument to the record that it gets: ``recorder`` (name),
            ``from_student`` (bool), and optionally ``record_idx`` (which call of the module), ``data_idx`` (which item
            of the record), ``connector`` (name), ``connector_idx`` (which item of the connector's output).

    Raises:
        UserError: As for :class:`Distiller`, or a name in a mapping does not exist.

    Example:
        >>> dict(
        ...     type='ConfigurableDistiller',
        ...     student_recorders=dict(feat=dict(type='ModuleOutputs', source='network.backbone.layer4')),
        ...     teacher_recorders=dict(feat=dict(type='ModuleOutputs', source='network.backbone.layer4')),
        ...     connectors=dict(widen=dict(type='ConvConnector', in_channel=512, out_channel=2048)),
        ...     distill_losses=dict(loss_cwd=dict(type='CWDLoss', tau=1, loss_weight=50)),
        ...     loss_forward_mappings=dict(loss_cwd=dict(
        ...         student=dict(recorder='feat', from_student=True, connector='widen'),
        ...         teacher=dict(recorder='feat', from_student=False))))
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
        super().__init__(student, teacher, student_recorders, teacher_recorders, connectors, distill_losses)
        self._labelled = {
            name for name, loss in self.distill_losses.items() if "label" in inspect.signature(loss.forward).parameters
        }
        self.loss_forward_mappings = {name: dict(records) for name, records in (loss_forward_mappings or {}).items()}
        self._check()
        for record in (record for records in self.loss_forward_mappings.values() for record in records.values()):
            if record.get("connector") is not None and not record["from_student"]:
                source = self.teacher_recorders.recorders[record["recorder"]].source
                mmrazor_bridge.set_margin(self.connectors[record["connector"]], teacher, source)

    def compute_distill_losses(self, label: Tensor | None = None) -> dict[str, Tensor]:
        """See :meth:`Distiller.compute_distill_losses`."""
        return {name: self._compute(name, label) for name in self.loss_forward_mappings}

    def _compute(self, name: str, label: Tensor | None) -> Tensor:
        """One loss; what cannot be compared is told with its places, shapes and the connector that fits."""
        records = self.loss_forward_mappings[name]
        raw = {key: self._recorded(record) for key, record in records.items()}
        arguments = {key: self._connected(name, key, raw) for key in records}
        loss = self.distill_losses[name]
        labelled = {"label": label} if name in self._labelled else {}
        try:
            return loss(**{**labelled, **arguments})
        except MisfitError as error:
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

    def _recorded(self, record: Config) -> Any:
        """One record."""
        recorders = self.student_recorders if record["from_student"] else self.teacher_recorders
        return recorders.recorders[record["recorder"]].get(record.get("record_idx", 0), record.get("data_idx"))

    def _connected(self, name: str, key: str, raw: Config) -> Any:
        """A record of a loss after its connector."""
        record, data = self.loss_forward_mappings[name][key], raw[key]
        connector, index = record.get("connector"), record.get("connector_idx")
        if connector is not None:
            try:
                data = self.connectors[connector](data)
            except _MISFITS as error:
                if isinstance(error, torch.OutOfMemoryError):
                    raise
                reason = f"connector {connector!r} does not take the {key}'s {describe(data)}: {first_line(error)}"
                raise UserError(self._misfit(name, reason, raw, self._given(name, raw, False), False)) from error
        return data if index is None else data[index]

    def _misfit(self, name: str, reason: str, raw: Config, given: str, same_size: bool = True) -> str:
        """Why a loss failed, on what, and what would make it fit."""
        records = self.loss_forward_mappings[name]
        told = f"distill_losses.{name}: {reason}. It got {given}"
        if several := [key for key in records if _has_items(raw[key])]:
            return f"{told}. Choose one item with data_idx in loss_forward_mappings.{name}.{several[0]}"
        own = [key for key, record in records.items() if record["from_student"]]
        others = [key for key, record in records.items() if not record["from_student"]]
        if len(own) != 1 or len(others) != 1:
            return told
        entry = records[own[0]].get("connector")
        if config := connector_for(raw[own[0]], raw[others[0]], same_size):
            told += f". What fits is connectors=dict({entry or records[own[0]]['recorder']}={config})"
            if entry is None:
                told += f", with connector={records[own[0]]['recorder']!r} in loss_forward_mappings.{name}.{own[0]}"
        return told

    def _given(self, name: str, values: Config, connected: bool = True) -> str:
        """The arguments of a loss with their places, in words."""
        records = self.loss_forward_mappings[name]
        return ", ".join(
            f"{key} {describe(values[key])} from {self._place(records[key], connected)}" for key in records
        )

    def _place(self, record: Config, connected: bool) -> str:
        """Where a record comes from, in words."""
        recorders = self.student_recorders if record["from_student"] else self.teacher_recorders
        whose = "student" if record["from_student"] else "teacher"
        through = f" through connector {record['connector']!r}" if connected and record.get("connector") else ""
        return f"the {whose}'s {recorders.recorders[record['recorder']].source}{through}"

    def _check(self) -> None:
        """Refuse names that do not exist, before anything runs."""
        mappings = self.loss_forward_mappings
        for name in mappings:
            _known(name, self.distill_losses, "loss_forward_mappings", "distill_losses")
        for name, loss in self.distill_losses.items():
            if name not in mappings:
                raise UserError(f"distill_losses.{name} has no entry in loss_forward_mappings, so it gets no input")
            where = f"loss_forward_mappings.{name}"
            parameters = inspect.signature(loss.forward).parameters
            for key, record in mappings[name].items():
                _known(key, parameters, where, f"the arguments of {type(loss).__name__}")
                self._check_record(record, f"{where}.{key}")
            needed = [key for key, parameter in parameters.items() if _is_required(parameter)]
            _none_missing(needed, mappings[name], where, type(loss).__name__)

    def _check_record(self, record: Config, where: str) -> None:
        """Refuse a record that names a recorder or connector that does not exist."""
        for key in record:
            _known(key, _RECORD_KEYS, where, "its keys")
        _none_missing(("recorder", "from_student"), record, where, "a record")
        if not isinstance(record["from_student"], bool):
            raise UserError(f"{where}.from_student is {record['from_student']!r}, expected True or False")
        if record["from_student"]:
            _known(record["recorder"], self.student_recorders.recorders, where, "student_recorders")
        else:
            _known(record["recorder"], self.teacher_recorders.recorders, where, "teacher_recorders")
        if record.get("connector") is not None:
            _known(record["connector"], self.connectors, where, "connectors")


def _build_connector(name: str, cfg: Config | Sequence[Config]) -> nn.Module:
    """Build a connector; a list of configs gives a sequence."""
    where = f"connectors.{name}"
    if isinstance(cfg, (list, tuple)):
        return Sequential(*(_build(one, f"{where}[{index}]") for index, one in enumerate(cfg)))
    return _build(cfg, where)


def _build(cfg: Any, where: str) -> nn.Module:
    """Build a loss or connector."""
    return mmrazor_bridge.adapt(build_part(cfg, where))


def _differ(arguments: Iterable[Any]) -> bool:
    """Whether the shapes of a loss's arguments may be why it failed."""
    arguments = list(arguments)
    shapes = {argument.shape for argument in arguments if isinstance(argument, Tensor)}
    return len(shapes) > 1 or any(map(_has_items, arguments))


def _has_items(record: Any) -> bool:
    """Whether a record is several tensors, of which a loss may want one."""
    return isinstance(record, (list, tuple)) and any(isinstance(item, Tensor) for item in record)


def _is_required(parameter: inspect.Parameter) -> bool:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return parameter.kind in named and parameter.default is inspect.Parameter.empty


def _known(name: str, names: Iterable[str], where: str, what: str) -> None:
    """Refuse a name that is not among ``names``."""
    names = list(names)
    if name not in names:
        raise UserError(f"{where}: {name!r} is not among {what} ({', '.join(names) or 'none are given'})")


def _none_missing(needed: Iterable[str], given: Collection[str], where: str, what: str) -> None:
    """Refuse a mapping without one of the needed keys."""
    missing = [key for key in needed if key not in given]
    if missing:
        raise UserError(f"{where}: {what} also needs {', '.join(missing)}")
