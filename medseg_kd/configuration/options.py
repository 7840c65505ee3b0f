"""Options: keys of a config that are changed for one run."""

import argparse
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import mmengine.runner
from mmengine.config import Config, DictAction

from medseg_kd.configuration.types import accepted_arguments
from medseg_kd.errors import UserError, did_you_mean

_TOP_LEVEL = {
    *inspect.signature(mmengine.runner.Runner).parameters,
    *("val_cases", "sync_bn", "find_unused_parameters", "model_wrapper_cfg", "compile", "activation_checkpointing"),
}


def parse_options(words: Sequence[str]) -> dict[str, Any]:
    """Values of options as a command line gives them, such as ``train_cfg.max_iters=2000``.

    Raises:
        UserError: One is not ``KEY=VALUE``.
    """
    for word in words:
        if "=" not in word:
            raise UserError(f"--cfg-options {word}: expected KEY=VALUE")
    parser = argparse.ArgumentParser()
    parser.add_argument("--options", nargs="*", action=DictAction)
    return parser.parse_args(["--options", *words]).options


def set_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Change keys of a config.

    Args:
        cfg: The config that is changed.
        options: Such as ``{"train_cfg.max_iters": 2000}``.

    Raises:
        UserError: The config has no such key and the type that it belongs to does not take it.
    """
    for key in options:
        _check_key(cfg, key)
    try:
        cfg.merge_from_dict(dict(options))
    except (KeyError, TypeError, IndexError) as error:
        raise UserError(f"--cfg-options: {error}") from error


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
        elif isinstance(node, Mapping) and depth and part in accepted_arguments(node):
            return
        else:
            raise UserError(_unknown(key, ".".join(parents[:depth]), part, node))
    if isinstance(node, Mapping) and leaf not in node and parents and leaf not in accepted_arguments(node):
        raise UserError(_unknown(key, ".".join(parents), leaf, {**node, **dict.fromkeys(accepted_arguments(node))}))


def _unknown(key: str, parent: str, part: str, node: Any) -> str:
    """The message for a key that does not exist, with the nearest that do."""
    names = [str(name) for name in node] if isinstance(node, Mapping) else []
    hint = did_you_mean(part, names, f"; known keys: {', '.join(sorted(names)) or 'none'}")
    return f"--cfg-options {key}: {parent or 'the config'} has no key {part!r}{hint}"
