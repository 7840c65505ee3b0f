"""A config against the classes that it names: what they do not know is told before anything is built."""

import inspect
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from mmengine.dataset import InfiniteSampler
from mmengine.registry import DefaultScope, Registry
from mmengine.registry.build_functions import build_from_cfg
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from medseg_kd import registry as registries
from medseg_kd.configuration.arguments import REGISTRIES, check_arguments, check_keys, check_kind
from medseg_kd.configuration.kinds import named_parameters
from medseg_kd.configuration.names import TOP_LEVEL, check_names
from medseg_kd.configuration.scores import check_scores
from medseg_kd.configuration.values import check_values
from medseg_kd.datasets import SeededSampler
from medseg_kd.errors import UserError, did_you_mean, first_line

LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
# Dicts whose keys are names, or arguments of what no ``type`` beside them names.
_OPAQUE = {"spec", "metainfo", "format_options", "collate_fn"}
# What a segmentor takes for each of its losses, whatever their class.
_OF_ANY_LOSS = ("loss_weight", "loss_name")
_LOSS = re.compile(r"\.losses(\[\d+\])?$")


class _Part(NamedTuple):
    """What builds the dicts of one place: a registry, the class of those that name none, and the keys that are not, or
    not only, for the config to give."""

    registry: Registry
    default: str | None = None
    others: tuple[str, ...] = ()


_DATASET = _Part(registries.DATASETS)
_LOOP = ("runner", "dataloader", "evaluator")
_HOOK = _Part(registries.HOOKS, others=("priority",))
_METRIC = _Part(registries.METRICS)
_PARTS = {
    "dataset": _DATASET,
    "datasets": _DATASET,
    "pipeline": _Part(registries.TRANSFORMS),
    "sampler": _Part(registries.DATA_SAMPLERS, others=("dataset", "seed")),
    "batch_sampler": _Part(registries.DATA_SAMPLERS, others=("sampler", "batch_size")),
    "optim_wrapper": _Part(registries.OPTIM_WRAPPERS, "OptimWrapper", ("constructor", "paramwise_cfg", "optimizer")),
    "optimizer": _Part(registries.OPTIMIZERS, others=("params",)),
    "param_scheduler": _Part(registries.PARAM_SCHEDULERS, others=("convert_to_iter_based", "optimizer")),
    "train_cfg": _Part(registries.LOOPS, "EpochBasedTrainLoop", _LOOP),
    "val_cfg": _Part(registries.LOOPS, "ValLoop", _LOOP),
    "test_cfg": _Part(registries.LOOPS, "TestLoop", _LOOP),
    "default_hooks": _HOOK,
    "custom_hooks": _HOOK,
    "val_evaluator": _METRIC,
    "test_evaluator": _METRIC,
    "metrics": _METRIC,
    "evaluator": _Part(registries.EVALUATOR, "Evaluator"),
    "visualizer": _Part(registries.VISUALIZERS),
    "vis_backends": _Part(registries.VISBACKENDS, others=("save_dir",)),
    "log_processor": _Part(registries.LOG_PROCESSORS, "LogProcessor"),
}


def _loader(num_batch_per_epoch: int | None = None) -> None:
    """What MMEngine's loaders take beside PyTorch's arguments."""


def _scale_lr(enable: bool, base_batch_size: int) -> None: ...


def _environment(
    cudnn_benchmark: bool = False,
    tf32: bool = True,
    mp_cfg: dict[str, Any] = {},  # noqa: B006
    dist_cfg: dict[str, Any] = {},  # noqa: B006
    resource_limit: int = 4096,
) -> None: ...


_KEYS = {
    **dict.fromkeys(LOADERS, {**named_parameters(DataLoader), **named_parameters(_loader)}),
    "randomness": named_parameters(Runner.set_randomness),
    "auto_scale_lr": named_parameters(_scale_lr),
    "env_cfg": named_parameters(_environment),
}
"""Keys of dicts that no class is built of, and what may stand there."""


def check_config(cfg: Any) -> None:
    """Refuse names, types and arguments that nothing knows, with the nearest that are known.

    Args:
        cfg: A whole config.

    Raises:
        UserError: The first of them; the message names the file, the place and what is taken there.
    """
    check_names(cfg)
    check_values({key: cfg[key] for key in sorted(TOP_LEVEL.keys() & cfg.keys())}, file_of(cfg))
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "medseg_kd")):
        for key in sorted(TOP_LEVEL.keys() & cfg.keys()):
            if key in _KEYS and isinstance(cfg[key], Mapping):
                check_keys(f"{file_of(cfg)}: {key}", cfg[key], {*_KEYS[key]})
                for name in cfg[key]:
                    check_kind(f"{file_of(cfg)}: {key}.{name}", cfg[key][name], _KEYS[key][name])
            _check(cfg, key, cfg[key], key)
            check_kind(f"{file_of(cfg)}: {key}", cfg[key], TOP_LEVEL[key])
        _check_epochs(cfg)
        check_scores(cfg, file_of(cfg))


def _check_epochs(cfg: Any) -> None:
    """Refuse epochs that never end."""
    sampler = (cfg.get("train_dataloader") or {}).get("sampler")
    found = [_kind(cfg, key, node, key) for key, node in (("train_cfg", cfg.get("train_cfg")), ("sampler", sampler))]
    if _is(found[0], EpochBasedTrainLoop) and _is(found[1], SeededSampler, InfiniteSampler):
        raise UserError(
            f"{file_of(cfg)}: train_cfg is an {found[0].__name__}, but the end of an epoch never comes: "
            f"train_dataloader.sampler is a {found[1].__name__}. Set sampler=dict(type='DefaultSampler', shuffle=True)"
        )


def _check(cfg: Any, where: str, node: Any, key: str) -> None:
    """Check what lies at a place of a config, and below; ``key`` tells what it is, and is empty in models and hooks."""
    if isinstance(node, Sequence) and not isinstance(node, str):
        for index, each in enumerate(node):
            _check(cfg, f"{where}[{index}]", each, key)
    if isinstance(node, (str, int, float)) and key in _PARTS and where.partition("[")[0] == key:
        raise UserError(f"{file_of(cfg)}: {where} is {node!r}, expected dict(type=...). Write it in a config file")
    if not isinstance(node, Mapping):
        return
    named = key == "default_hooks" and where == key
    if not named and (kind := _kind(cfg, where, node, key)) is not None:
        part = _PARTS.get(key)
        others = {*(part.others if part else ()), *(() if "type" in node else ("by_epoch",))}
        others |= {*(_OF_ANY_LOSS if _LOSS.search(where) else ())}
        check_arguments(f"{file_of(cfg)}: {where}", node, kind, others, part is not None)
    inside = key in ("model", "data_preprocessor", "custom_hooks", "default_hooks", "") and not named
    for name, value in node.items():
        if name not in _OPAQUE and not (inside and name.endswith("_cfg")):
            _check(cfg, f"{where}.{name}", value, key if named else "" if inside else name)


def _kind(cfg: Any, where: str, node: Any, key: str) -> Any:
    """The class or function that a dict is for; None where it is for none, or where its builder tells what is wrong.

    Raises:
        UserError: Its ``type`` is not known at this place, or lacks.
    """
    if not isinstance(node, Mapping):
        return None
    part = _PARTS["evaluator"] if key.endswith("_evaluator") and "metrics" in node else _PARTS.get(key)
    kind = node.get("type", part and part.default)
    if "type" not in node and key == "train_cfg" and not node.get("by_epoch", True):
        kind = "IterBasedTrainLoop"
    if "type" not in node and key == "optim_wrapper" and "optimizer" not in node:
        return None  # several optimizers, of whom their constructor knows
    if part is not None and kind is None:
        raise UserError(f"{file_of(cfg)}: a part has no type: {where} is {dict(node)}")
    if not isinstance(kind, str):
        return kind if inspect.isclass(kind) or inspect.isfunction(kind) else None
    found = next(filter(None, (_find(each, kind) for each in ([part.registry] if part else REGISTRIES))), None)
    if found is None and (part or kind in registries.MODELS.module_dict):
        raise unknown_type(cfg, kind, part.registry.name if part else registries.MODELS.name)
    return found


def _find(registry: Registry, name: str) -> Any:
    """What a name stands for in the scope of the config."""
    try:
        with registry.switch_scope_and_registry(None) as scoped:
            return scoped.get(name)
    except RuntimeError:
        return None


def _is(kind: Any, *bases: type) -> bool:
    return isinstance(kind, type) and issubclass(kind, bases)


@contextmanager
def type_errors_explained(cfg: Any) -> Iterator[None]:
    """Turn what is said of a part that cannot be built into a message that names the config.

    Raises:
        UserError: Something in the block was to be built from a type that is not registered, from none, or with values
            that a class of MMEngine, MMSegmentation or PyTorch does not take.
    """
    try:
        yield
    except (KeyError, ValueError, TypeError, AssertionError, ImportError) as error:
        text = str(error.args[0]) if error.args else ""
        name, unknown, registry = text.partition(" is not in the ")
        if isinstance(error, KeyError) and unknown:
            raise unknown_type(cfg, name, registry.partition("::")[2].partition(" registry")[0]) from error
        if isinstance(error, KeyError) and 'must contain the key "type"' in text:
            raise UserError(f"{file_of(cfg)}: a part has no type: {text}") from error
        if refused := _refused(error):
            raise UserError(f"{file_of(cfg)}: {refused} cannot be built: {first_line(error)}") from error
        if isinstance(error, ImportError) and "pip install" in text:  # of a part that needs a package
            raise UserError(f"{file_of(cfg)}: {text}") from error
        raise


def _refused(error: BaseException) -> str:
    """The class of others and its plain arguments, where it was being built and no code of another origin ran in it."""
    found = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code is build_from_cfg.__code__ and inspect.isclass(kind := frame.f_locals.get("obj_cls")):
            plain = {
                key: value for key, value in frame.f_locals["args"].items() if isinstance(value, (str, int, float))
            }
            found = f"{kind.__name__}({', '.join(f'{key}={value!r}' for key, value in plain.items())})"
        elif not frame.f_globals.get("__name__", "").startswith(("mmengine.", "mmseg.", "mmcv.", "torch.")):
            found = ""
    return found


def unknown_type(cfg: Any, name: str, kind: str) -> UserError:
    """The message for a type that the registries of a kind do not have, with the nearest that they do."""
    own = [each for each in REGISTRIES if each.name == kind]
    at = f"{file_of(cfg)}: type={name!r} is not known as {kind}"
    if any(name in each.module_dict for each in own):
        return UserError(f"{at} in default_scope={cfg.get('default_scope')!r}: write type='medseg_kd.{name}'")
    hint = did_you_mean(name, {known for each in own for known in _names(each)}, ".")
    return UserError(
        f"{at}{hint} A class of your own is imported in the config and written without quotes: type=MyClass"
    )


def file_of(cfg: Any) -> str:
    """The file of a config, for messages."""
    return getattr(cfg, "filename", None) or "the config"


def _names(registry: Registry) -> set[str]:
    """Names of a registry and of its parents."""
    return set(registry.module_dict) | (set() if registry.parent is None else _names(registry.parent))
