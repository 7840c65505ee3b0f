"""Ranges of the values in a config: what makes no sense is told before anything is built."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.hooks import Hook
from mmengine.runner import get_priority
from torch.distributed import Backend

from medseg_kd.errors import UserError

_LARGEST = 2**31 - 1


class _Range(NamedTuple):
    """What a value may be, and how a message says it."""

    holds: Callable[[Any], bool]
    expected: str


def _integers(low: int, high: int = _LARGEST, **others: Any) -> _Range:
    """Integers from ``low`` to ``high``, and further values by what they mean."""

    def holds(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    to = f"an integer of at least {low}, below 2**31" if high == _LARGEST else f"an integer from {low} to {high}"
    return _or(_Range(holds, to), others)


def _numbers(low: float, high: float = math.inf, beyond: bool = False, **others: Any) -> _Range:
    """Finite numbers of at least ``low``, or ``beyond`` it, to ``high``."""

    def holds(value: Any) -> bool:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        return is_number and (value > low if beyond else value >= low) and value <= high

    to = "" if high == math.inf else f" and at most {high:g}"
    return _or(_Range(holds, f"a finite number {'above' if beyond else 'of at least'} {low:g}{to}"), others)


def _one_of(*words: Any) -> _Range:
    """One of some words."""
    return _Range(lambda value: any(value is each or str(value) == each for each in words), f"one of {words}")


def _or(plain: _Range, others: Mapping[str, Any]) -> _Range:
    """A range and some values beside it, each under the word for what it means."""
    told = "".join(f", or {value} for {meaning.replace('_', ' ')}" for meaning, value in others.items())
    return _Range(lambda value: value in others.values() or plain.holds(value), plain.expected + told)


def _is_size(value: Any) -> bool:
    """Whether a value is a height and a width, or None."""
    return value is None or (
        isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_integers(1).holds, value))
    )


def _is_scale(value: Any) -> bool:
    """Whether a value says how fp16's gradients are scaled."""
    return value == "dynamic" or isinstance(value, Mapping) or _numbers(0, beyond=True).holds(value)


def _is_template(value: Any) -> bool:
    """Whether a value names files by a number."""
    return value is None or (
        isinstance(value, str) and value.count("{}") == 1 and not set(value.replace("{}", "")) & set("{}/\\")
    )


def _is_priority(value: Any) -> bool:
    """Whether a value says when a hook is called."""
    try:
        return get_priority(value) >= 0
    except (KeyError, TypeError, ValueError):
        return False


def _is_folder(value: Any) -> bool:
    """Whether a value is None, an address, a folder or the name of one that can be made."""
    if not isinstance(value, (str, Path)) or "://" in str(value):
        return value is None or isinstance(value, str)
    folder = Path(value).absolute()
    return next(each for each in (folder, *folder.parents) if each.exists()).is_dir()


def _is_backend(value: Any) -> bool:
    """Whether processes can talk by it: a name, or one for each device as in ``cpu:gloo,cuda:nccl``."""
    names = {each.rpartition(":")[2].lower() for each in str(value).split(",")}
    return names <= {*Backend.backend_list, "smddp"}


_DTYPES = ("float16", "bfloat16", "torch.float16", "torch.bfloat16", None)
_LOADER = r"(train|val|test)_dataloader"
_HOOK = r"(default_hooks\.\w+|custom_hooks\[\d+\])"
_MODEL = r"model\.(.*\.)?"
_RANGES = {
    re.compile(place): expected
    for place, expected in {
        r"train_cfg\.(max_iters|max_epochs|val_interval)": _integers(1),
        r"train_cfg\.val_begin": _integers(0),
        r"train_cfg\.dynamic_intervals\[\d+\]\[1\]": _integers(1),
        rf"{_LOADER}\.batch_size": _integers(1, a_batch_sampler=None),
        rf"{_LOADER}\.num_workers": _integers(0),
        rf"{_LOADER}\.prefetch_factor": _integers(1, the_default=None),
        rf"{_LOADER}\.timeout": _numbers(0),
        rf"{_LOADER}\.num_batch_per_epoch": _integers(1, all=None),
        rf"{_LOADER}\.sampler\.seed": _integers(0, 2**32 - 1, that_of_the_run=None),
        rf"{_LOADER}\.dataset\.neighbours": _integers(0),
        rf"{_LOADER}\.(.*\.)?indices": _or(_integers(1), {"all": None}),
        rf"{_LOADER}\.(.*\.)?indices\[\d+\]": _integers(0),
        r".*\.(out_dir|output_dir|save_dir|cache_dir)": _Range(_is_folder, "a folder, or the name of a new one"),
        rf"{_HOOK}\.(interval|max_keep_ckpts)": _integers(1, never_or_all=-1),
        r"default_hooks\.logger\.interval": _integers(1),
        r"default_hooks": _Range(lambda value: isinstance(value, Mapping | None), "dict(name=dict(type=...))"),
        r"default_hooks\.\w+": _Range(lambda value: isinstance(value, Mapping | Hook | None), "dict(type=...)"),
        r"custom_hooks": _Range(lambda value: isinstance(value, Sequence | None), "a list of dict(type=...)"),
        rf"{_HOOK}\.priority": _Range(_is_priority, "a name such as NORMAL or LOW, or an integer from 0 to 100"),
        rf"{_HOOK}\.(begin_iter|begin_epoch|save_begin|skip|patience)": _integers(0),
        rf"{_HOOK}\.momentum": _numbers(0, 1, beyond=True),
        rf"{_HOOK}\.(interval_exp_name|gamma|lines|profile_times)": _integers(1),
        rf"{_HOOK}\.filename_tmpl": _Range(_is_template, "a name with one {}, as in iter_{}.pth"),
        rf"{_HOOK}\.min_delta": _numbers(0),
        r"log_processor\.window_size": _integers(1),
        r"log_processor\.num_digits": _integers(0, 16),
        r"visualizer\.alpha": _numbers(0, 1),
        r"env_cfg\.resource_limit": _integers(1),
        r"env_cfg\.dist_cfg\.backend": _Range(_is_backend, f"one of {', '.join(Backend.backend_list)}"),
        r"env_cfg\.mp_cfg\.mp_start_method": _one_of("fork", "spawn", "forkserver"),
        r"(val|test)_evaluator(\[\d+\]|\.metrics\[\d+\])?\.collect_device": _one_of("cpu", "gpu"),
        r"optim_wrapper\.(.*\.)?optimizer\.(lr|weight_decay|eps)": _numbers(0),
        r"optim_wrapper\.(.*\.)?optimizer\.(momentum|dampening)": _numbers(0, 1),
        r"optim_wrapper\.dtype": _one_of(*_DTYPES),
        r"optim_wrapper\.loss_scale": _Range(_is_scale, "dynamic, a number above 0, or arguments of a GradScaler"),
        r"optim_wrapper\.(.*\.)?accumulative_counts": _integers(1),
        r"optim_wrapper\.(.*\.)?clip_grad\.(max_norm|clip_value)": _numbers(0, beyond=True),
        r"param_scheduler(\[\d+\])?\.(begin|end|power|eta_min|eta_min_ratio|T_max|start_factor|end_factor|gamma)": (
            _numbers(0, the_default=None)
        ),
        r"param_scheduler(\[\d+\])?\.(step_size|T_max)": _integers(1, the_default=None),
        rf"{_MODEL}(tau|temperature)": _numbers(0, beyond=True),
        rf"{_MODEL}(loss_weight|smooth|degree|output_weights\[\d+\])": _numbers(0),
        rf"{_MODEL}distiller\.loss_weight": _Range(
            lambda value: isinstance(value, Mapping) or _numbers(0).holds(value),
            f"{_numbers(0).expected}, or a rule",
        ),
        rf"{_MODEL}(rotate_prob|flip_prob|drop_rate|\w+_drop_rate|drop_path_rate|dropout_ratio|label_smoothing)": (
            _numbers(0, 1)
        ),
        rf"{_MODEL}size_divisor": _integers(1, no_padding=None),
        rf"{_MODEL}(num_classes|in_channels)": _integers(1, what_the_data_say=None),
        rf"{_MODEL}slice_batch": _integers(1, the_default=None),
        r"model\.data_preprocessor\.size": _Range(_is_size, "(height, width) of at least 1, or None"),
        r"randomness\.seed": _integers(0, 2**32 - 1, a_random_one=None),
        r"auto_scale_lr\.base_batch_size": _integers(1),
    }.items()
}
"""Place in a config, as a regular expression, and what may stand there. The last that fits counts."""
_OTHERS = {"in_channels": (list, tuple), "indices": (list, tuple)}
"""Keys that also have a form which the class they are for checks."""


def check_values(cfg: Any, file: str) -> None:
    """Refuse values outside of what makes sense at their place.

    Args:
        cfg: A whole config.
        file: Its name, for the message.

    Raises:
        UserError: The first of them; the message names the key, the value and what is expected.
    """
    for where, value in _leaves(cfg, ""):
        if isinstance(value, _OTHERS.get(where.rpartition(".")[2], ())):
            continue
        fitting = [expected for place, expected in _RANGES.items() if place.fullmatch(where)]
        if fitting and not fitting[-1].holds(value):
            raise UserError(f"{file}: {where} is {value!r}, expected {fitting[-1].expected}")


def _leaves(node: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Places and values of a config, lists as a whole too."""
    if where:
        yield where, node
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _leaves(value, f"{where}.{key}" if where else str(key))
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _leaves(value, f"{where}[{index}]")
