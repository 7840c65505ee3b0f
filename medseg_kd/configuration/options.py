"""Options: keys of a config that are changed for one run."""

import argparse
import ast
import copy
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from mmengine.config import Config, DictAction

from medseg_kd.configuration.checking import check_config
from medseg_kd.configuration.names import TOP_LEVEL
from medseg_kd.errors import UserError, did_you_mean


def parse_options(words: Sequence[str]) -> dict[str, Any]:
    """Values of options as a command line gives them, such as ``train_cfg.max_iters=2000``.

    Raises:
        UserError: One is not ``KEY=VALUE``.
    """
    options: dict[str, Any] = {}
    parser = argparse.ArgumentParser()
    parser.add_argument("--options", nargs="*", action=DictAction)
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not all(key.split(".")):
            raise UserError(f"--cfg-options {word}: expected KEY=VALUE, such as train_cfg.max_iters=2000")
        try:
            options[key] = _listed(value) or parser.parse_args([f"--options={word}"]).options[key]
        except AssertionError as error:  # MMEngine's, of brackets
            raise UserError(f"--cfg-options {word}: {error}") from error
    return options


def _listed(text: str) -> list[Any] | None:
    """A list that is written as in Python, in which MMEngine would take quoted digits for numbers."""
    with suppress(ValueError, SyntaxError):
        return ast.literal_eval(text) if text.startswith("[") else None
    return None


def set_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Change keys of a config, or add such as the types that it names take.

    Args:
        cfg: The config that is changed.
        options: Such as ``{"train_cfg.max_iters": 2000}``.

    Raises:
        UserError: Nothing takes such a key, or the config itself is wrong, see
            :func:`~medseg_kd.configuration.checking.check_config`.
    """
    check_config(cfg)
    for key in options:
        top = key.split(".")[0]
        if top not in TOP_LEVEL and top in cfg:
            raise UserError(
                f"--cfg-options {key}: {top} is a variable that the config files use among themselves; changing it "
                "here would do nothing. Change the key that it went into, such as train_dataloader.dataset.data_root"
            )
        if top not in TOP_LEVEL:
            known = f"; known keys: {', '.join(sorted(TOP_LEVEL))}"
            raise UserError(f"--cfg-options {key}: the config has no key {top!r}{did_you_mean(top, TOP_LEVEL, known)}")
    changed = copy.deepcopy(cfg)
    for key, value in options.items():
        try:
            changed.merge_from_dict({key: value})
        except (KeyError, TypeError, IndexError) as error:
            raise UserError(f"--cfg-options {key}: {error.args[0]}") from error
    try:
        check_config(changed)
    except UserError as error:
        concerned = [key for key in options if key.split(".")[0] in str(error)] or options
        raise UserError(f"--cfg-options {' '.join(concerned)}: {error}") from error
    cfg.merge_from_dict(dict(options))
