"""A config against the classes that it names: what they do not know is told before anything is built."""

import inspect
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import mmengine.registry
from mmengine.dist import init_dist
from mmengine.registry import DefaultScope, Registry
from mmengine.runner import Runner
from mmengine.utils.dl_utils import set_multi_processing
from torch.distributed import init_process_group
from torch.utils.data import DataLoader

from medseg_kd import registry as registries
from medseg_kd.configuration.arguments import REGISTRIES, check_arguments, check_keys, check_kind
from medseg_kd.configuration.consistency import check_consistency
from medseg_kd.configuration.explaining import file_of, unknown_type
from medseg_kd.configuration.kinds import named_parameters
from medseg_kd.configuration.names import LOADERS, TOP_LEVEL, check_names
from medseg_kd.configuration.scores import check_scores
from medseg_kd.configuration.values import check_values
from medseg_kd.errors import UserError

# Dicts whose keys are names, or arguments of what no ``type`` beside them names.
_OPAQUE = {"spec", "metainfo", "format_options", "collate_fn"}
# Dicts of which a network builds its layers.
_LAYERS = ("norm_cfg", "act_cfg", "conv_cfg")
# What a segmentor takes for each of its losses, whatever their class.
_OF_ANY_LOSS = ("loss_weight", "loss_name")
_LOSS = re.compile(r"\.losses(\[\d+\])?$")
# What any distiller takes.
_OF_ANY_DISTILLER = ("loss_weight", "weight_schedule")
_DISTILLER = re.compile(r"^model\.(.*\.)?distiller$")


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
    if "default_scope" in cfg:
        check_kind(f"{file_of(cfg)}: default_scope", cfg["default_scope"], TOP_LEVEL["default_scope"])
        _check_scope(cfg)
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "medseg_kd")):
        for key in sorted(TOP_LEVEL.keys() & cfg.keys()):
            if key in _KEYS and isinstance(cfg[key], Mapping):
                _check_dict(f"{file_of(cfg)}: {key}", cfg[key], _KEYS[key])
            _check(cfg, key, cfg[key], key)
            check_kind(f"{file_of(cfg)}: {key}", cfg[key], TOP_LEVEL[key])
        if isinstance(processes := (cfg.get("env_cfg") or {}).get("mp_cfg"), Mapping):
            _check_dict(f"{file_of(cfg)}: env_cfg.mp_cfg", processes, named_parameters(set_multi_processing))
        if isinstance(connection := (cfg.get("env_cfg") or {}).get("dist_cfg"), Mapping):
            known = {"port", *named_parameters(init_dist), *named_parameters(init_process_group)}
            check_keys(f"{file_of(cfg)}: env_cfg.dist_cfg", connection, known - {"launcher"})
        check_scores(cfg, file_of(cfg))
        check_consistency(cfg, file_of(cfg))


def _check_scope(cfg: Any) -> None:
    """Refuse a scope that is neither that of a registry nor a package that may have one."""
    scope, root = cfg["default_scope"], mmengine.registry.MODELS
    if scope is not None and scope not in (root.scope, *root.children) and find_spec(scope.partition(".")[0]) is None:
        raise UserError(
            f"{file_of(cfg)}: default_scope is {scope!r}, which no package has: leave it out, or name one such as "
            "'medseg_kd' or 'mmseg'"
        )


def _check_dict(where: str, node: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Check a dict that no class is built of."""
    check_keys(where, node, {*known})
    for name, value in node.items():
        check_kind(f"{where}.{name}", value, known[name])


def _check(cfg: Any, where: str, node: Any, key: str) -> None:
    """Check what lies at a place of a config, and below; ``key`` tells what it is, and is empty in models and hooks."""
    with DefaultScope.overwrite_default_scope(node.get("_scope_") if isinstance(node, Mapping) else None):
        _check_in_scope(cfg, where, node, key)


def _check_in_scope(cfg: Any, where: str, node: Any, key: str) -> None:
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
        others |= {*(_OF_ANY_DISTILLER if _DISTILLER.search(where) else ())}
        check_arguments(f"{file_of(cfg)}: {where}", node, kind, others, part is not None)
    inside = key in ("model", "data_preprocessor", "custom_hooks", "default_hooks", "") and not named
    for name, value in node.items():
        layer = value.get("type") if name in _LAYERS and isinstance(value, Mapping) else None
        if isinstance(layer, str) and _find(registries.MODELS, layer) is None:
            raise unknown_type(cfg, layer, registries.MODELS.name)
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
    if kind is not None and not isinstance(kind, str) and not callable(kind):
        raise UserError(f"{file_of(cfg)}: {where}.type is {kind!r}, expected a name or a class")
    if not isinstance(kind, str):
        return kind if inspect.isclass(kind) or inspect.isfunction(kind) else None
    found = next(filter(None, (_find(each, kind) for each in ([part.registry] if part else REGISTRIES))), None)
    if found is None and (part or kind in registries.MODELS.module_dict):
        raise unknown_type(cfg, kind, part.registry.name if part else registries.MODELS.name)
    return found


def _find(registry: Registry, name: str) -> Any:
    """What a name stands for in the scope of the config."""
    if registry.parent is None:  # of a kind that no other scope has
        return registry.get(name)
    try:
        with registry.switch_scope_and_registry(None) as scoped:
            return scoped.get(name)
    except RuntimeError:
        return None
