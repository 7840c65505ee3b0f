"""Ranges of the values in a config: what makes no sense is told before anything is built."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from medseg_kd.errors import UserError


class _Range(NamedTuple):
    """What a value may be, and how a message says it."""

    holds: Callable[[Any], bool]
    expected: str


def _integers(low: int, high: float = math.inf, **others: Any) -> _Range:
    """Integers from ``low`` to ``high``, and further values by what they mean."""

    def holds(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    to = f"an integer of at least {low}" if high == math.inf else f"an integer from {low} to {high:.0f}"
    return _or(_Range(holds, to), others)


def _numbers(low: float = -math.inf, beyond: bool = False, **others: Any) -> _Range:
    """Finite numbers of at least ``low``, or ``beyond`` it."""

    def holds(value: Any) -> bool:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        return is_number and (value > low if beyond else value >= low)

    bound = "" if low == -math.inf else f" above {low:g}" if beyond else f" of at least {low:g}"
    return _or(_Range(holds, f"a finite number{bound}"), others)


def _or(plain: _Range, others: Mapping[str, Any]) -> _Range:
    """A range and some values beside it, each under the word for what it means."""
    told = "".join(f", or {value} for {meaning.replace('_', ' ')}" for meaning, value in others.items())
    return _Range(lambda value: value in others.values() or plain.holds(value), plain.expected + told)


def _is_size(value: Any) -> bool:
    """Whether a value is a height and a width, or None."""
    return value is None or (
        isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_integers(1).holds, value))
    )


_LOADER = r"(train|val|test)_dataloader"
_HOOK = r"(default_hooks\.\w+|custom_hooks\[\d+\])"
_MODEL = r"model\.(.*\.)?"
_RANGES = {
    re.compile(place): expected
    for place, expected in {
        r"train_cfg\.(max_iters|max_epochs|val_interval)": _integers(1),
        r"train_cfg\.val_begin": _integers(0),
        rf"{_LOADER}\.batch_size": _integers(1, a_batch_sampler=None),
        rf"{_LOADER}\.num_workers": _integers(0),
        rf"{_LOADER}\.prefetch_factor": _integers(1, the_default=None),
        rf"{_LOADER}\.timeout": _numbers(0),
        rf"{_LOADER}\.dataset\.neighbours": _integers(0),
        rf"{_HOOK}\.(interval|max_keep_ckpts)": _integers(1, never_or_all=-1),
        r"default_hooks\.logger\.interval": _integers(1),
        rf"{_HOOK}\.(momentum|begin_iter|begin_epoch|save_begin|skip)": _numbers(0),
        r"log_processor\.window_size": _integers(1),
        r"optim_wrapper\.(.*\.)?optimizer\.(lr|weight_decay|momentum|eps)": _numbers(0),
        r"optim_wrapper\.(.*\.)?accumulative_counts": _integers(1),
        r"optim_wrapper\.(.*\.)?clip_grad\.(max_norm|clip_value)": _numbers(0, beyond=True),
        r"param_scheduler(\[\d+\])?\.(begin|end|power|eta_min|eta_min_ratio|T_max|start_factor|end_factor|gamma)": (
            _numbers(0, the_default=None)
        ),
        rf"{_MODEL}(tau|temperature)": _numbers(0, beyond=True),
        rf"{_MODEL}loss_weight": _numbers(0),
        rf"{_MODEL}size_divisor": _integers(1, no_padding=None),
        rf"{_MODEL}(num_classes|in_channels)": _integers(1, what_the_data_say=None),
        rf"{_MODEL}slice_batch": _integers(1, the_default=None),
        r"model\.data_preprocessor\.size": _Range(_is_size, "(height, width) of at least 1, or None"),
        r"randomness\.seed": _integers(0, 2**32 - 1, a_random_one=None),
        r"auto_scale_lr\.base_batch_size": _integers(1),
    }.items()
}
"""Place in a config, as a regular expression, and what may stand there. The last that fits counts."""
_OTHERS = {"in_channels": (list, tuple)}
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
