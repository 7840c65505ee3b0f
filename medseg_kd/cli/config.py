"""Reading a config, changing it from the command line, checking that its parts agree."""

import argparse
import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mmengine.runner
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.config.utils import ConfigParsingError
from mmengine.registry import DefaultScope, Registry

from medseg_kd import registry
from medseg_kd.configs_dir import configs_dir
from medseg_kd.errors import UserError, did_you_mean
from medseg_kd.registry import MODELS, OPTIMIZERS

_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
_TOP_LEVEL = {
    *inspect.signature(mmengine.runner.Runner).parameters,
    *("val_cases", "sync_bn", "find_unused_parameters", "model_wrapper_cfg", "compile", "activation_checkpointing"),
}
_UNKNOWN_TYPE = re.compile(r"(\S+) is not in the \w+::([\w ]+) registry")
_MISSING_TYPE = 'must contain the key "type"'
_REGISTRIES = [value for value in vars(registry).values() if isinstance(value, Registry)]


def add_shared_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what train.py and test.py have in common."""
    parser.add_argument("config", help="config file, such as configs/unet/unet_r18v1c_d8_40k_synapse.py")
    parser.add_argument("--work-dir", metavar="DIR", help="run folder (default: work_dirs/<config name>)")
    parser.add_argument("--data-root", metavar="DIR", help="data folder of training, validation and test")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help="config keys to change, such as train_cfg.max_iters=2000 randomness.seed=1",
    )
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm", "mpi"), default="none")
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)


def load_config(args: argparse.Namespace) -> Config:
    """Read the config of a command line and apply its options.

    Raises:
        UserError: No such file, an error in it, an option whose key does not exist, or parts that do not agree.
    """
    cfg = read_config(args.config)
    path = Path(cfg.filename)
    for key in args.cfg_options or {}:
        _check_key(cfg, key)
    try:
        cfg.merge_from_dict(args.cfg_options or {})
    except (KeyError, TypeError, IndexError) as error:
        raise UserError(f"--cfg-options: {error}") from error
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or f"work_dirs/{path.stem}"
    for name in _LOADERS:
        if args.data_root and cfg.get(name):
            cfg[name].dataset.data_root = args.data_root
    _hold_out(cfg)
    _check_scope(cfg)
    _check_optimizer(cfg)
    return cfg


def read_config(name: str | Path) -> Config:
    """Read a config by its path, from here or from the packaged configs.

    Raises:
        UserError: No such file, or an error in it.
    """
    return _parse(_find(str(name)))


def build_model(cfg: Config) -> Any:
    """Build the model of a config.

    Raises:
        UserError: A type in it is not registered, or its parts do not fit together.
    """
    with type_errors_explained(cfg), DefaultScope.overwrite_default_scope(cfg.get("default_scope", "medseg_kd")):
        return MODELS.build(cfg.model)


@contextmanager
def type_errors_explained(cfg: Config) -> Iterator[None]:
    """Turn what the registries say of an unknown or missing ``type`` into a message that names the config.

    Raises:
        UserError: Something in the block was to be built from a type that is not registered, or from none.
    """
    try:
        yield
    except KeyError as error:
        text = str(error.args[0]) if error.args else ""
        if unknown := _UNKNOWN_TYPE.match(text):
            raise _unknown_type(cfg, *unknown.groups()) from error
        if _MISSING_TYPE in text:
            raise UserError(f"{cfg.filename}: a part has no type: {text}") from error
        raise


def _unknown_type(cfg: Config, name: str, kind: str) -> UserError:
    """The message for a type that the registries of a kind do not have, with the nearest that they do."""
    known = {each for registry in _REGISTRIES if registry.name == kind for each in _names(registry)}
    return UserError(
        f"{cfg.filename}: type={name!r} is not known as {kind}{did_you_mean(name, known, '.')} A class of your own is "
        "imported in the config and written without quotes: type=MyClass"
    )


def _names(registry: Registry) -> set[str]:
    """Names of a registry and of its parents."""
    return set(registry.module_dict) | (set() if registry.parent is None else _names(registry.parent))


def _find(name: str) -> Path:
    """A config by its path, from here or from the packaged configs."""
    path = Path(name)
    if path.is_file():
        return path
    packaged = configs_dir() / Path(*path.parts[1:] if path.parts[:1] == ("configs",) else path.parts)
    if packaged.is_file():
        return packaged
    names = [found.as_posix() for found in Path("configs").rglob("*.py") if "_base_" not in found.parts]
    raise UserError(f"config not found: {name}{did_you_mean(path.as_posix(), names, in_lines=True)}")


def _parse(path: Path) -> Config:
    """Read a config file; an error in it names the file and the line."""
    try:
        return Config.fromfile(path)
    except SyntaxError as error:
        file = path if error.filename in (None, "<unknown>") else error.filename
        raise UserError(f"{file}, line {error.lineno}: {error.msg}") from error
    except (ConfigParsingError, ImportError, NameError, TypeError, KeyError, AttributeError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a config: {type(error).__name__}: {error}") from error


def _check_key(cfg: Config, key: str) -> None:
    """Refuse an option whose key the config does not have and the type that it belongs to does not take."""
    node: Any = cfg._cfg_dict
    *parents, leaf = key.split(".")
    if (top := key.split(".")[0]) not in _TOP_LEVEL:
        if top in node:
            raise UserError(
                f"--cfg-options {key}: {top} is a variable that the config files use among themselves; changing it "
                "here would do nothing. Change the key that it went into, such as train_dataloader.dataset.data_root"
            )
        raise UserError(_unknown(key, "", top, dict.fromkeys(_TOP_LEVEL)))
    for depth, part in enumerate(parents):
        if isinstance(node, (list, tuple)) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        elif isinstance(node, Mapping) and part in node:
            node = node[part]
        elif isinstance(node, Mapping) and depth and part in _accepted(node):
            return
        else:
            raise UserError(_unknown(key, ".".join(parents[:depth]), part, node))
    if isinstance(node, Mapping) and leaf not in node and parents and leaf not in _accepted(node):
        raise UserError(_unknown(key, ".".join(parents), leaf, {**node, **dict.fromkeys(_accepted(node))}))


def _accepted(node: Mapping[str, Any]) -> set[str]:
    """Arguments of the type that a config dict builds; none for a dict that builds nothing."""
    kind = node.get("type")
    if isinstance(kind, str):
        kind = next((found for each in _REGISTRIES if (found := each.get(kind))), None)
    if kind is None:
        return set()
    names: set[str] = set()
    for owner in getattr(kind, "__mro__", (kind,)):
        names |= set(inspect.signature(owner).parameters) if owner is not object else set()
    return names


def _unknown(key: str, parent: str, part: str, node: Any) -> str:
    """The message for a key that does not exist, with the nearest that do."""
    names = [str(name) for name in node] if isinstance(node, Mapping) else []
    hint = did_you_mean(part, names, f"; known keys: {', '.join(sorted(names)) or 'none'}")
    return f"--cfg-options {key}: {parent or 'the config'} has no key {part!r}{hint}"


def _hold_out(cfg: Config) -> None:
    """Validate on the training cases named in ``val_cases`` and leave them out of training."""
    cases = cfg.get("val_cases")
    if cases:
        cfg.train_dataloader.dataset.exclude_cases = list(cases)
        cfg.val_dataloader.dataset.update(split="train", cases=list(cases))


def segmentor_of(model: ConfigDict) -> ConfigDict:
    """The segmentor that a model config trains: of a distillation, the student."""
    return model.get("architecture", model)


def _check_scope(cfg: Config) -> None:
    """Refuse a model that is to be built by MMRazor itself, which does not import."""
    if cfg.model.get("_scope_") == "mmrazor":
        raise UserError(
            f"{cfg.filename}: model._scope_ is 'mmrazor', but the algorithm, the distiller and the recorders are this "
            "project's own. Leave _scope_ out, and write type='mmrazor.<Name>' for MMRazor's losses and connectors; "
            "docs/mmrazor.md has the rest"
        )


def _check_optimizer(cfg: Config) -> None:
    """Refuse an unknown optimizer, which MMEngine only notices when it calls it."""
    kind = (cfg.get("optim_wrapper") or {}).get("optimizer", {}).get("type")
    if isinstance(kind, str) and OPTIMIZERS.get(kind) is None:
        raise _unknown_type(cfg, kind, OPTIMIZERS.name)
