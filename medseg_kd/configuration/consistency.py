"""Parts of a config that make no sense together, or that nothing but a trial can check."""

import re
from collections.abc import Mapping
from inspect import Parameter
from typing import Any

from mmengine.dataset import InfiniteSampler
from mmengine.hooks import CheckpointHook
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import Registry
from mmengine.runner import BaseLoop, IterBasedTrainLoop

from medseg_kd.configuration.arguments import KNOWN_CODE, accepted_arguments, check_keys, check_kind
from medseg_kd.configuration.kinds import named_parameters
from medseg_kd.configuration.names import LOADERS
from medseg_kd.configuration.trial import try_loader, try_metric, try_optimizer, try_schedule
from medseg_kd.datasets import SeededSampler
from medseg_kd.errors import UserError
from medseg_kd.registry import DATA_SAMPLERS, HOOKS, LOOPS, MODELS, OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS, found

_TOGETHER = (
    ("train_dataloader", "train_cfg", "optim_wrapper"),
    ("val_dataloader", "val_cfg", "val_evaluator"),
    ("test_dataloader", "test_cfg", "test_evaluator"),
)


_SAVED = (
    "state_dict",
    "meta",
    "message_hub",
    "optimizer",
    "gradients",
    "param_schedulers",
    "connectors",
    "ema_state_dict",
)
_LOGGED = ("lr", "momentum", "loss", "grad_norm", "time", "data_time", "memory")


def _paramwise(
    custom_keys: dict[str, dict[str, float]] | None = None,
    bias_lr_mult: float = 1,
    bias_decay_mult: float = 1,
    norm_decay_mult: float = 1,
    flat_decay_mult: float = 1,
    dwconv_decay_mult: float = 1,
    dcn_offset_lr_mult: float = 1,
    bypass_duplicate: bool = False,
) -> None:
    """What MMEngine's ``DefaultOptimWrapperConstructor`` takes as ``paramwise_cfg``."""


def check_consistency(cfg: Any, file: str) -> None:
    """Refuse parts that do not go together, and values that the classes of others refuse.

    Args:
        cfg: A whole config, whose keys, types and values are checked.
        file: Its name, for messages.

    Raises:
        UserError: The first of them.
    """
    for keys in _TOGETHER:
        absent = [key for key in keys if cfg.get(key) is None]
        if 0 < len(absent) < len(keys):
            raise UserError(
                f"{file}: {', '.join(absent)}: not set, but the others of {', '.join(keys)} are. Set all three, or all "
                "to None"
            )
    if cfg.get("optim_wrapper") is None and cfg.get("param_scheduler"):
        raise UserError(f"{file}: param_scheduler has no optim_wrapper to schedule: set both, or both to None")
    _check_endless(cfg, file)
    loop = cfg.get("train_cfg") or {}
    if _is(_loop(loop), IterBasedTrainLoop):
        _check_units(cfg, file)
    for name in LOADERS:
        if isinstance(loader := cfg.get(name), Mapping):
            try_loader(f"{file}: {name}", loader)
    for key in ("val_evaluator", "test_evaluator"):
        if cfg.get(key) is not None and not listed(cfg[key]):
            raise UserError(f"{file}: {key} has no metric: name one, such as dict(type='VolumeMetric')")
        for metric in listed(cfg.get(key)):
            if isinstance(metric, Mapping) and "type" in metric:
                try_metric(f"{file}: {key}", metric)
    if all(_is_known(kind) for kind in (_kind_of(cfg.get("model"), MODELS), *map(_kind_of, _hooks(cfg).values()))):
        _check_produced(cfg, file)
    if isinstance(wrapper := cfg.get("optim_wrapper"), Mapping):
        _check_paramwise(f"{file}: optim_wrapper.paramwise_cfg", wrapper)


def check_training(cfg: Any, file: str) -> None:
    """Refuse what the optimizer and the schedules of a training refuse, before its data are read.

    It takes the second in which PyTorch imports what its optimizers need, so that a test does without.
    """
    built = try_optimizer(f"{file}: optim_wrapper", cfg["optim_wrapper"])
    for where, schedule in _schedules(cfg) if built is not None else ():
        steps = cfg["train_cfg"].get("max_epochs" if schedule.get("by_epoch", True) else "max_iters") or 1
        try_schedule(f"{file}: {where}", schedule, built, steps)


def _check_endless(cfg: Any, file: str) -> None:
    """Refuse loops that wait for the end of data which have none."""
    for name, key in zip(LOADERS, ("train_cfg", "val_cfg", "test_cfg"), strict=True):
        sampler = (cfg.get(name) or {}).get("sampler")
        kind = found(DATA_SAMPLERS, sampler.get("type")) if isinstance(sampler, Mapping) else None
        loop = _loop(cfg.get(key) or {}) if key == "train_cfg" else BaseLoop
        if kind is not None and _is(kind, SeededSampler, InfiniteSampler) and not _is(loop, IterBasedTrainLoop):
            what = f"an {loop.__name__}" if key == "train_cfg" else "a loop over all data"
            raise UserError(
                f"{file}: {key} is {what}, but the end of an epoch never comes: {name}.sampler is a {kind.__name__}. "
                f"Set sampler=dict(type='DefaultSampler', shuffle={key == 'train_cfg'})"
            )


def _check_units(cfg: Any, file: str) -> None:
    """Refuse what counts epochs in a training that has none."""
    parts = [(where, hook) for where, hook in _hooks(cfg).items() if _is(_kind_of(hook), CheckpointHook)]
    for where, part in [*parts, *_schedules(cfg)]:
        if part.get("by_epoch", True) and not part.get("convert_to_iter_based"):
            raise UserError(
                f"{file}: {where} counts epochs (by_epoch is {part.get('by_epoch', True)}), and train_cfg trains by "
                "iterations: nothing would ever happen. Set by_epoch=False, and what it counts in iterations"
            )


def _check_produced(cfg: Any, file: str) -> None:
    """Refuse to publish or show what neither a checkpoint holds nor a step logs; hooks of others may add to both."""
    for where, hook in _hooks(cfg).items():
        for key in listed((hook or {}).get("published_keys")) if isinstance(hook, Mapping) else ():
            if key not in _SAVED:
                raise UserError(f"{file}: {where}.published_keys has {key!r}; a checkpoint holds {', '.join(_SAVED)}")
    for index, each in enumerate(listed((cfg.get("log_processor") or {}).get("custom_cfg"))):
        source = each.get("data_src", "loss") if isinstance(each, Mapping) else ""
        if not isinstance(source, str) or (source not in _LOGGED and not re.search("loss|^m[A-Z]|/|acc", source)):
            where = f"log_processor.custom_cfg[{index}].data_src"
            raise UserError(f"{file}: {where} is {source!r}; logged are {', '.join(_LOGGED)}, losses and scores")


def _check_paramwise(where: str, wrapper: Mapping[str, Any]) -> None:
    """Refuse settings of parameters that MMEngine's constructor would leave out without a word."""
    given, optimizer = wrapper.get("paramwise_cfg"), wrapper.get("optimizer")
    constructor = wrapper.get("constructor", DefaultOptimWrapperConstructor)
    if given is None or found(OPTIM_WRAPPER_CONSTRUCTORS, constructor) is not DefaultOptimWrapperConstructor:
        return
    known = named_parameters(_paramwise)
    check_kind(where, given, Parameter("paramwise_cfg", Parameter.KEYWORD_ONLY, annotation=dict))
    check_keys(where, given, {*known})
    for name, value in given.items():
        check_kind(f"{where}.{name}", value, known[name])
    kind = found(OPTIMIZERS, optimizer.get("type")) if isinstance(optimizer, Mapping) else None
    taken = (accepted_arguments(kind, {}) if isinstance(kind, type) else None) or {}
    for name, value in (given.get("custom_keys") or {}).items() if taken else ():
        check_keys(f"{where}.custom_keys.{name}", value, {"lr_mult", "decay_mult"} | taken.keys())


def _loop(loop: Mapping[str, Any]) -> Any:
    """The class of a training loop; MMEngine's default counts epochs."""
    default = "EpochBasedTrainLoop" if loop.get("by_epoch", True) else "IterBasedTrainLoop"
    return found(LOOPS, loop.get("type", default))


def _hooks(cfg: Any) -> dict[str, Any]:
    """Places and configs of the hooks of a config."""
    named = {f"default_hooks.{name}": hook for name, hook in (cfg.get("default_hooks") or {}).items()}
    return named | {f"custom_hooks[{index}]": hook for index, hook in enumerate(listed(cfg.get("custom_hooks")))}


def _kind_of(part: Any, registry: Registry = HOOKS) -> Any:
    return found(registry, part["type"]) if isinstance(part, Mapping) and "type" in part else None


def _schedules(cfg: Any) -> list[tuple[str, Mapping[str, Any]]]:
    """Places and configs of the schedules of a config."""
    given = cfg.get("param_scheduler") or ()
    named = (
        [("param_scheduler", given)]
        if isinstance(given, Mapping)
        else [(f"param_scheduler[{index}]", each) for index, each in enumerate(given)]
    )
    return [(where, each) for where, each in named if isinstance(each, Mapping)]


def listed(given: Any) -> list[Any]:
    """One part or several as a list; the metrics of an evaluator."""
    if isinstance(given, Mapping):
        return listed(given["metrics"]) if "metrics" in given else [given]
    return [given] if isinstance(given, str) else list(given or ())


def _is(kind: Any, *bases: type) -> bool:
    return isinstance(kind, type) and issubclass(kind, bases)


def _is_known(kind: Any) -> bool:
    return kind is None or getattr(kind, "__module__", "").startswith(KNOWN_CODE)
