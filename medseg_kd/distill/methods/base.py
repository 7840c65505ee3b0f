"""What the methods share: how one is registered, and what it asks the two models for."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import nn

from medseg_kd.distill.distiller import Distiller
from medseg_kd.distill.recorders import Logits, ModuleOutputs, StageOutput
from medseg_kd.errors import UserError
from medseg_kd.models.stages import Stage
from medseg_kd.registry import MODELS

_Method = TypeVar("_Method", bound=type[Distiller])

METHODS: dict[str, type[Distiller]] = {}
"""The methods by their names."""


def method(loss: type[nn.Module]) -> Callable[[_Method], _Method]:
    """Decorator of a method, a distiller that a config builds by its name with ``dict(type=<name>, **arguments)``.

    What it takes as ``**options`` are the arguments of the class ``loss``, with their defaults.
    """

    def register(kind: _Method) -> _Method:
        if init := vars(kind).get("__init__"):  # one that is inherited may take the options of several losses
            own, options = (inspect.signature(each).parameters.values() for each in (init, loss))
            parameters = [each for each in own if each.kind is not each.VAR_KEYWORD]
            parameters += [each.replace(kind=each.KEYWORD_ONLY) for each in options]
            weight = {"loss_weight": float | dict[str, Any]}  # a rule, see build_distiller
            parameters = [each.replace(annotation=weight.get(each.name, each.annotation)) for each in parameters]
            init.__signature__ = inspect.Signature(parameters)
        is_again = getattr(METHODS.get(kind.__name__), "__module__", None) == kind.__module__
        MODELS.register_module(module=kind, force=is_again)
        METHODS[kind.__name__] = kind
        return kind

    return register


def on_logits(name: str, loss: dict[str, Any], student: nn.Module, teacher: nn.Module) -> dict[str, Any]:
    """The arguments of a :class:`ConfigurableDistiller` that compares the native logits of both models.

    ``loss`` is the config of a loss called as ``loss(student, teacher, label=None)``, ``name`` its name in the log.
    They come from the ``network`` of a model, or from the classifier of an MMSegmentation head.
    """
    sources = ["network" if hasattr(model, "network") else "decode_head.conv_seg" for model in (student, teacher)]
    return {
        "student_recorders": {"logits": {"type": Logits, "source": sources[0]}},
        "teacher_recorders": {"logits": {"type": Logits, "source": sources[1]}},
        "distill_losses": {name: loss},
        "loss_forward_mappings": {name: compare("logits")},
    }


def on_stages(pairs: Mapping[str, tuple[Stage, Stage]]) -> dict[str, Any]:
    """The recorders of both sides for pairs of stages, as arguments of a :class:`Distiller`."""
    return {
        f"{whose}_recorders": {name: _recorder(pair[side]) for name, pair in pairs.items()}
        for side, whose in enumerate(("student", "teacher"))
    }


def _recorder(stage: Stage) -> dict[str, Any]:
    """Config of the recorder of a stage."""
    source = {"source": stage["module"]}
    if "data_idx" in stage:
        return {"type": StageOutput, "data_idx": stage["data_idx"], **source}
    return {"type": ModuleOutputs, **source}


def on_stage(
    name: str, loss: dict[str, Any], pair: tuple[Stage, Stage], connector: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The arguments of a :class:`ConfigurableDistiller` that compares one stage, through a connector."""
    return {
        **on_stages({"stage": pair}),
        "connectors": {"stage": connector} if connector else {},
        "distill_losses": {name: loss},
        "loss_forward_mappings": {name: compare("stage", "stage" if connector else None)},
    }


def compare(recorder: str, connector: str | None = None) -> dict[str, dict[str, Any]]:
    """The forward mapping of a loss on the recorder that has this name on both sides."""
    return {
        "student": {"recorder": recorder, "from_student": True, "connector": connector},
        "teacher": {"recorder": recorder, "from_student": False},
    }


def stage_pairs(student: nn.Module, teacher: nn.Module) -> dict[str, tuple[Stage, Stage]]:
    """Pair the stages of two models by their order from the deepest; shallow stages of the longer one have no partner.

    Returns ``stage<i>`` to (student stage, teacher stage), shallow to deep; a stage is an entry of ``feature_info``.

    Raises:
        UserError: One of the models does not tell its stages.
    """
    stages: list[list[Stage]] = []
    for whose, model in (("student", student), ("teacher", teacher)):
        stages.append(list(getattr(model, "feature_info", None) or ()))
        if not stages[-1]:
            kind = type(getattr(model, "network", model)).__name__
            raise UserError(
                f"the {whose}'s network {kind} has no feature_info, so its stages are not known. Name their modules, "
                "shallow to deep, in its config: model.feature_info=[dict(module='network.<path>'), ...], choose a "
                "method that works on logits (KD, LSKD, DKD, DIST, CWD, BPKD), or name the modules with "
                "ConfigurableDistiller"
            )
    pairs = list(zip(*map(reversed, stages), strict=False))[::-1]
    return {f"stage{index}": pair for index, pair in enumerate(pairs)}


def stage_pair(student: nn.Module, teacher: nn.Module, stage: int) -> tuple[Stage, Stage]:
    """The stages of both with this index into :func:`stage_pairs`, -1 for the deepest.

    Raises:
        UserError: There is no such stage.
    """
    pairs = list(stage_pairs(student, teacher).values())
    if not -len(pairs) <= stage < len(pairs):
        raise UserError(f"stage is {stage}, but student and teacher share {len(pairs)} stages")
    return pairs[stage]
