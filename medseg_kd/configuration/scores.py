"""Scores that a config asks for, and other words in it that would be refused when the first validation is over."""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mmseg.evaluation import IoUMetric
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from medseg_kd.configuration.arguments import check_arguments
from medseg_kd.errors import UserError
from medseg_kd.evaluation import VolumeMetric
from medseg_kd.evaluation.measures.base import DEFAULT, build_all
from medseg_kd.registry import HOOKS, METRICS, PARAM_SCHEDULERS, found

_CLIPPING: dict[str, Callable[..., Any]] = {"norm": clip_grad_norm_, "value": clip_grad_value_}
_GIVEN_BY_IOU = {"mIoU": {"mIoU", "mAcc"}, "mDice": {"mDice", "mAcc"}, "mFscore": {"mFscore", "mPrecision", "mRecall"}}
"""What MMSegmentation's metric gives for each of its ``iou_metrics``, beside ``aAcc``."""
_ORGAN = "<organ>"
"""Stands for the name of any."""


def check_scores(cfg: Any, file: str) -> None:
    """Refuse arguments of gradient clipping, log levels and scores that nothing knows.

    Args:
        cfg: A whole config, whose keys and types are known.
        file: Its name, for messages.

    Raises:
        UserError: The first of them; the message names the key.
    """
    if isinstance(level := cfg.get("log_level"), str) and not isinstance(logging.getLevelName(level), int):
        raise UserError(f"{file}: log_level is {level!r}, expected INFO, DEBUG, WARNING or ERROR")
    if isinstance(clip := _at(cfg, "optim_wrapper.clip_grad"), Mapping):
        function = _CLIPPING.get(kind := clip.get("type", "norm"))
        if function is None:
            raise UserError(f"{file}: optim_wrapper.clip_grad.type is {kind!r}, expected norm or value")
        check_arguments(f"{file}: optim_wrapper.clip_grad", clip, function, {"parameters"}, True)
    for key in ("val_evaluator", "test_evaluator"):
        given = [name for metric in _metrics(cfg, key) for name in _scores(metric, f"{file}: {key}") or ()]
        if given.count("mDice") > 1:
            kinds = [found(METRICS, each["type"]).__name__ for each in _metrics(cfg, key)]
            raise UserError(f"{file}: {key}: {' and '.join(kinds)} give an mDice. Add prefix='other' to one")
    _check_monitored(cfg, file)


def _check_monitored(cfg: Any, file: str) -> None:
    """Refuse a hook that looks at a score which no validation gives."""
    told = [_scores(metric, f"{file}: val_evaluator") for metric in _metrics(cfg, "val_evaluator")]
    given = {name for names in told for name in names or ()}
    if not told or None in told:
        return
    of_organs = tuple(name.removesuffix(_ORGAN) for name in given if name.endswith(_ORGAN))
    for where, hook in _observers(cfg):
        kind = found(PARAM_SCHEDULERS if where.startswith("param_scheduler") else HOOKS, hook.get("type"))
        if not getattr(kind, "__module__", "").startswith(("mmengine.", "medseg_kd.")):
            continue  # a monitor may be anything there
        for key in ("save_best", "monitor"):
            asked = hook.get(key) or ()
            for name in [asked] if isinstance(asked, str) else asked:
                if name not in {*given, "auto"} and not name.startswith(of_organs):
                    raise UserError(
                        f"{file}: {where}.{key} is {name!r}, but val_evaluator gives {', '.join(sorted(given))}. Take "
                        "one of them, or let a metric give it"
                    )


def _observers(cfg: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Hooks and schedulers of a config and their places."""
    schedulers = cfg.get("param_scheduler") or ()
    named = {
        **{f"default_hooks.{name}": hook for name, hook in (cfg.get("default_hooks") or {}).items()},
        **{f"custom_hooks[{index}]": hook for index, hook in enumerate(cfg.get("custom_hooks") or ())},
        **(
            {"param_scheduler": schedulers}
            if isinstance(schedulers, Mapping)
            else {f"param_scheduler[{index}]": each for index, each in enumerate(schedulers)}
        ),
    }
    return ((where, part) for where, part in named.items() if isinstance(part, Mapping))


def _metrics(cfg: Any, key: str) -> list[Any]:
    """The metrics of an evaluator."""
    given = cfg.get(key) or []
    several = given.get("metrics", given) if isinstance(given, Mapping) else given
    return list(several) if isinstance(several, (list, tuple)) else [several]


def _scores(metric: Any, where: str) -> set[str] | None:
    """Names of the scores that a metric gives; None where they are not known."""
    if not isinstance(metric, Mapping):
        return None
    kind = found(METRICS, metric["type"])
    if isinstance(kind, type) and issubclass(kind, VolumeMetric):
        try:
            titles = [measure.title for measure in build_all(metric.get("measures", DEFAULT))]
        except UserError as error:
            raise UserError(f"{where}.measures: {error}") from error
        names = {f"m{title}" for title in titles}
        names |= {f"{title}_{_ORGAN}" for title in titles} if metric.get("per_class") else set()
    elif kind is IoUMetric:
        asked = metric.get("iou_metrics", ["mIoU"])
        names = {"aAcc"}.union(*(_GIVEN_BY_IOU.get(each, ()) for each in asked))
    else:
        return None
    prefix = metric.get("prefix")
    return {f"{prefix}/{name}" if prefix else name for name in names}


def _at(cfg: Any, key: str) -> Any:
    """What lies at a dotted place; None where there is nothing."""
    first, *others = key.split(".")
    node = cfg.get(first)
    for name in others:
        node = node.get(name) if isinstance(node, Mapping) else None
    return node
