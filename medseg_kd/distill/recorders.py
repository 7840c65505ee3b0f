"""Recorders: they hold what a model computes, recorded only inside ``with`` and kept only until they are cleared.

Hooks stay on the recorded modules and do nothing outside, so that a whole training step compiles into one graph.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from medseg_kd.errors import UserError
from medseg_kd.models.base import outputs_of
from medseg_kd.models.stages import look_up
from medseg_kd.registry import MODELS, build_part


class Recorder:
    """Base of the recorders, with MMRazor's schema.

    The source is looked up anew whenever recording starts: what SyncBN's conversion or a compiler puts in the place of
    a module is what is recorded.

    Args:
        model: What is recorded.
        source: Where the data come from, as a dotted path from the model. A wrong one is a UserError with the nearest.
        sources: Another spelling of ``source``, that of MMRazor's documentation.
    """

    def __init__(self, model: nn.Module, source: str | None = None, sources: str | None = None) -> None:
        if (source is None) == (sources is None) or not isinstance(source or sources, str):
            raise UserError(f"{type(self).__name__} needs one source, a dotted path such as 'network.backbone.layer4'")
        self.source: str = source or sources or ""
        self.records: list[Any] = []
        self._model = model
        self.find()

    def find(self) -> Any:
        """The source, as it is now; an error where it is not there."""
        raise NotImplementedError

    def start(self) -> None:
        """Forget what was recorded and record from now on."""
        raise NotImplementedError

    def stop(self) -> None:
        """Record no more; what was recorded stays until :meth:`clear`."""

    def clear(self) -> None:
        """Let go of everything that was recorded."""
        self.records = []

    def get(self, record_idx: int = 0, data_idx: int | None = None) -> Any:
        """One record, of the call ``record_idx`` of the source; where it is a tuple or list, its item ``data_idx``."""
        if not -len(self.records) <= record_idx < len(self.records):
            raise UserError(
                f"{self} holds {len(self.records)} records after the forward pass, so record_idx={record_idx} does not "
                "exist. A module is recorded as often as it is called; one that is never called (an auxiliary head of "
                "the teacher, say) is not recorded"
            )
        record = self.records[record_idx]
        if data_idx is None:
            return record
        if not isinstance(record, (list, tuple)) or not -len(record) <= data_idx < len(record):
            what = f"{len(record)} items" if isinstance(record, (list, tuple)) else f"one {type(record).__name__}"
            raise UserError(f"{self} recorded {what}, so data_idx={data_idx} does not exist")
        return record[data_idx]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.source!r})"


@dataclass
class _Tap:
    """A forward hook that collects in ``records`` what it picks, and nothing while that is None."""

    # It knows neither its recorder nor its model: a copy of a module has an idle hook and drags nothing along, and no
    # cycle of references keeps a model alive.
    pick: Callable[[nn.Module, tuple[Any, ...], Any], Any]
    records: list[Any] | None = None

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        if self.records is None:
            return None
        self.records.append(self.pick(module, inputs, output))
        is_layer = next(module.children(), None) is None and next(module.parameters(), None) is not None
        return output.clone() if self.records[-1] is output and isinstance(output, Tensor) and is_layer else None


@MODELS.register_module(name=["ModuleOutputs", "ModuleOutputsRecorder"])
class ModuleOutputs(Recorder):
    """Records what a module returns, one record for each call.

    After a single layer the network goes on with a copy: an in-place activation would overwrite the record.
    """

    def __init__(self, model: nn.Module, source: str | None = None, sources: str | None = None) -> None:
        self._tap = _Tap(self.pick)
        self._module: nn.Module | None = None
        self._hook: RemovableHandle
        super().__init__(model, source, sources)

    @staticmethod
    def pick(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        """What is recorded of a call."""
        return output

    def find(self) -> nn.Module:
        """The module; the hook moves where another one has taken its place."""
        module = look_up(self._model, "module", self._model.get_submodule, self.source)
        if module is not self._module:
            if self._module is not None:
                self._hook.remove()
            self._module, self._hook = module, module.register_forward_hook(self._tap)
        return module

    def start(self) -> None:
        self.find()
        self.records = self._tap.records = []

    def stop(self) -> None:
        self._tap.records = None


@MODELS.register_module(name=["ModuleInputs", "ModuleInputsRecorder"])
class ModuleInputs(ModuleOutputs):
    """Records the positional arguments of a module as a tuple, one record for each call."""

    @staticmethod
    def pick(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        return inputs


@MODELS.register_module()
class Logits(ModuleOutputs):
    """Records the logits that a module returns: of several outputs (auxiliary ones in training) the first."""

    @staticmethod
    def pick(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        return outputs_of(output)[0]


@MODELS.register_module()
class StageOutput(ModuleOutputs):
    """Records a stage of ``feature_info``: of several maps that its module returns, the one at ``data_idx``."""

    def __init__(self, model: nn.Module, source: str, data_idx: int) -> None:
        super().__init__(model, source)
        self._tap.pick = partial(_item, data_idx)


@MODELS.register_module(name=["Parameter", "ParameterRecorder"])
class Parameter(Recorder):
    """Records a parameter of the model."""

    def find(self) -> nn.Parameter:
        return look_up(self._model, "parameter", self._model.get_parameter, self.source)

    def start(self) -> None:
        self.records = [self.find()]


@dataclass
class RecorderManager:
    """Recorders of one model by their names; its forward pass runs inside :meth:`recording`."""

    recorders: dict[str, Recorder]

    def find(self) -> None:
        """Look up all sources anew."""
        for recorder in self.recorders.values():
            recorder.find()

    def clear(self) -> None:
        """Let go of everything that was recorded."""
        for recorder in self.recorders.values():
            recorder.clear()

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record what runs inside, after forgetting what was recorded before."""
        try:
            for recorder in self.recorders.values():
                recorder.start()
            yield
        finally:
            for recorder in self.recorders.values():
                recorder.stop()


def build_recorders(cfg: Mapping[str, Any] | None, model: nn.Module, where: str = "recorders") -> RecorderManager:
    """The recorders of a model: ``cfg`` is name to config; an error names the place ``where``."""
    return RecorderManager(
        {name: build_part(each, f"{where}.{name}", model=model) for name, each in (cfg or {}).items()}
    )


def _item(index: int, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
    return output[index]
