"""The distiller: recorders, connectors and losses, wired by a config with MMRazor's schema."""

import inspect
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule, ModuleDict, Sequential
from torch import Tensor, nn

from medseg_kd.distill import mmrazor_bridge
from medseg_kd.distill.recorders import RecorderManager
from medseg_kd.errors import UserError
from medseg_kd.registry import MODELS

Config = dict[str, Any]
_RECORD_KEYS = ("recorder", "from_student", "record_idx", "data_idx", "connector", "connector_idx")


@MODELS.register_module()
class ConfigurableDistiller(BaseModule):
    """Computes distillation losses on what recorders hold; the schema is that of MMRazor 1.0's class of this name.

    The config is checked when it is built. A loss whose ``forward`` takes ``label`` gets the batch's labels (N, H, W)
    without a mapping. As in MMRazor, only losses with "loss" in their name are summed for the backward pass.

    Args:
        student_recorders: Name to recorder config, for the student.
        teacher_recorders: The same for the teacher.
        connectors: Name to connector config, or to a list of them that are applied in turn.
        distill_losses: Name to loss config; of MMRazor's too, as of its connectors, with ``type='mmrazor.<Name>'``.
        loss_forward_mappings: For each loss, its forward argument to the record that it gets: ``recorder`` (name),
            ``from_student`` (bool), and optionally ``record_idx`` (which call of the module), ``data_idx`` (which item
            of the record), ``connector`` (name), ``connector_idx`` (which item of the connector's output).

    Example:
        >>> ConfigurableDistiller(
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
        student_recorders: Mapping[str, Config] | None = None,
        teacher_recorders: Mapping[str, Config] | None = None,
        connectors: Mapping[str, Config | Sequence[Config]] | None = None,
        distill_losses: Mapping[str, Config] | None = None,
        loss_forward_mappings: Mapping[str, Mapping[str, Config]] | None = None,
    ) -> None:
        super().__init__()
        self.configure(student_recorders, teacher_recorders, connectors, distill_losses, loss_forward_mappings)

    def configure(
        self,
        student_recorders: Mapping[str, Config] | None = None,
        teacher_recorders: Mapping[str, Config] | None = None,
        connectors: Mapping[str, Config | Sequence[Config]] | None = None,
        distill_losses: Mapping[str, Config] | None = None,
        loss_forward_mappings: Mapping[str, Mapping[str, Config]] | None = None,
    ) -> None:
        """Build and check everything; the arguments are those of the class.

        Raises:
            UserError: A name in the config does not exist.
        """
        self.student_recorders = RecorderManager(student_recorders)
        self.teacher_recorders = RecorderManager(teacher_recorders)
        self.connectors = ModuleDict({name: _build_connector(cfg) for name, cfg in (connectors or {}).items()})
        self.distill_losses = ModuleDict({name: _build(cfg) for name, cfg in (distill_losses or {}).items()})
        self.loss_forward_mappings = {name: dict(records) for name, records in (loss_forward_mappings or {}).items()}
        self._check()

    def attach(self, student: nn.Module, teacher: nn.Module) -> None:
        """Find the sources of the recorders in both models.

        Raises:
            UserError: A source is not there.
        """
        self.student_recorders.attach(student)
        self.teacher_recorders.attach(teacher)
        for record in (record for records in self.loss_forward_mappings.values() for record in records.values()):
            if record.get("connector") is not None and not record["from_student"]:
                source = self.teacher_recorders.recorders[record["recorder"]].source
                mmrazor_bridge.set_margin(self.connectors[record["connector"]], teacher, source)

    def compute_distill_losses(self, label: Tensor | None = None) -> dict[str, Tensor]:
        """Losses on what the recorders hold.

        Args:
            label: Labels of the batch, (N, H, W).

        Returns:
            Name to scalar.
        """
        return {name: self._compute(name, label) for name in self.loss_forward_mappings}

    def clear(self) -> None:
        """Let go of the recorded features of both models."""
        self.student_recorders.clear()
        self.teacher_recorders.clear()

    def _compute(self, name: str, label: Tensor | None) -> Tensor:
        """One loss; what it refuses is told with the places that its arguments come from."""
        records = self.loss_forward_mappings[name]
        arguments = {key: self._get(**record) for key, record in records.items()}
        loss = self.distill_losses[name]
        if "label" in inspect.signature(loss.forward).parameters:
            arguments.setdefault("label", label)
        try:
            return loss(**arguments)
        except UserError as error:
            places = ", ".join(f"{key} from {self._place(record)}" for key, record in records.items())
            raise UserError(f"distill_losses.{name} ({places}): {error}") from error
        except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
            if not mmrazor_bridge.is_mmrazor(loss) or isinstance(error, torch.OutOfMemoryError):
                raise
            got = ", ".join(
                f"{key} {_shape(arguments[key])} from {self._place(record)}" for key, record in records.items()
            )
            raise UserError(
                f"distill_losses.{name}: MMRazor's {type(loss).__name__} cannot take {got} ({error}). The page "
                "docs/mmrazor.md says which of MMRazor's losses take feature maps"
            ) from error

    def _get(
        self,
        recorder: str,
        from_student: bool,
        record_idx: int = 0,
        data_idx: int | None = None,
        connector: str | None = None,
        connector_idx: int | None = None,
    ) -> Any:
        """One record, through its connector."""
        recorders = self.student_recorders if from_student else self.teacher_recorders
        data = recorders.recorders[recorder].get(record_idx, data_idx)
        if connector is not None:
            data = self.connectors[connector](data)
        return data if connector_idx is None else data[connector_idx]

    def _place(self, record: Config) -> str:
        """Where a record comes from, in words."""
        recorders = self.student_recorders if record["from_student"] else self.teacher_recorders
        whose = "student" if record["from_student"] else "teacher"
        through = f" through connector {record['connector']!r}" if record.get("connector") else ""
        return f"the {whose}'s {recorders.recorders[record['recorder']].source}{through}"

    def _check(self) -> None:
        """Refuse names that do not exist, before anything runs."""
        mappings = self.loss_forward_mappings
        for name in mappings:
            _known(name, self.distill_losses, "loss_forward_mappings", "distill_losses")
        for name, loss in self.distill_losses.items():
            if name not in mappings:
                raise UserError(f"distill_losses.{name} has no entry in loss_forward_mappings, so it gets no input")
            if "loss" not in name:
                print_log(
                    f"distill_losses.{name} is logged but not trained on: only names with 'loss' in them are summed",
                    "current",
                    logging.WARNING,
                )
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


def _build_connector(cfg: Config | Sequence[Config]) -> nn.Module:
    """Build a connector; a list of configs gives a sequence."""
    if isinstance(cfg, Mapping):
        return _build(cfg)
    return Sequential(*(_build(one) for one in cfg))


def _build(cfg: Config) -> nn.Module:
    """Build a loss or connector."""
    return mmrazor_bridge.adapt(MODELS.build(dict(cfg)))


def _shape(value: Any) -> str:
    """A tensor's shape; what else it is for other values."""
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def _is_required(parameter: inspect.Parameter) -> bool:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return parameter.kind in named and parameter.default is inspect.Parameter.empty


def _known(name: str, names: Iterable[str], where: str, what: str) -> None:
    """Refuse a name that is not among ``names``."""
    names = list(names)
    if name not in names:
        raise UserError(f"distiller.{where}: {name!r} is not among {what} ({', '.join(names) or 'none are given'})")


def _none_missing(needed: Iterable[str], given: Collection[str], where: str, what: str) -> None:
    """Refuse a mapping without one of the needed keys."""
    missing = [key for key in needed if key not in given]
    if missing:
        raise UserError(f"distiller.{where}: {what} also needs {', '.join(missing)}")
