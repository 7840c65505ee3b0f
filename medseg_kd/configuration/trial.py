"""Parts that are built when the data are read already are built once before, on next to nothing."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.optim import OptimWrapper
from mmengine.registry import FUNCTIONS
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from medseg_kd.configuration.arguments import KNOWN_CODE
from medseg_kd.configuration.kinds import named_parameters
from medseg_kd.errors import UserError, in_short
from medseg_kd.registry import METRICS, OPTIMIZERS, PARAM_SCHEDULERS, found

_STEPS = 3
_ITEMS: Any = [0, 1]


def try_loader(where: str, loader: Mapping[str, Any]) -> None:
    """Let PyTorch look at the arguments of a loader; no process is started.

    Raises:
        UserError: It refuses them; the message begins with ``where``, as those of the other functions do.
    """
    collate = loader.get("collate_fn")
    if isinstance(collate, Mapping) and not callable(found(FUNCTIONS, collate.get("type"))):
        raise UserError(f"{where}.collate_fn is {collate!r}, expected a function, or dict(type=...) that names one")
    for key in ("sampler", "batch_sampler"):
        if isinstance(loader.get(key), (str, int, float)):
            raise UserError(f"{where}.{key} is {loader[key]!r}, expected dict(type=...)")
    if loader.get("batch_size", 0) is None and loader.get("batch_sampler") is None:
        raise UserError(f"{where}.batch_size is None: without a batch_sampler an integer of at least 1 is needed")
    plain = {key: loader[key] for key in loader.keys() & named_parameters(DataLoader).keys()}
    plain.update(dataset=_ITEMS, collate_fn=pseudo_collate, worker_init_fn=None)
    if not plain.get("num_workers"):
        plain.update(persistent_workers=False)
    for key, sampler in (("sampler", SequentialSampler(_ITEMS)), ("batch_sampler", BatchSampler(_ITEMS, 1, False))):
        if plain.get(key) is not None:
            plain[key] = sampler
    with _told(where):
        DataLoader(**plain)


def try_metric(where: str, metric: Mapping[str, Any]) -> None:
    """Build a metric that writes nothing."""
    kind = found(METRICS, metric.get("type"))
    folder = named_parameters(kind).get("output_dir")
    if _is_known(kind) and (folder is None or folder.default is None):
        with _told(where):
            METRICS.build({key: value for key, value in metric.items() if key != "output_dir"})


def try_optimizer(where: str, optim_wrapper: Mapping[str, Any]) -> OptimWrapper | None:
    """An optimizer of one parameter; None where its class is not known."""
    optimizer, wrapper = optim_wrapper.get("optimizer"), None
    if optimizer is None and "constructor" not in optim_wrapper and "type" in optim_wrapper:
        raise UserError(f"{where}.optimizer is missing: expected dict(type=...), such as dict(type='SGD', lr=0.01)")
    if isinstance(optimizer, str):
        raise UserError(f"{where}.optimizer is {optimizer!r}, expected dict(type={optimizer!r}, lr=...)")
    if isinstance(optimizer, Mapping) and _is_known(found(OPTIMIZERS, optimizer.get("type"))):
        parameter = torch.nn.Parameter(torch.ones(1))
        with _told(where):
            built = OPTIMIZERS.build({**optimizer, "params": [parameter]})
            wrapper = OptimWrapper(built, clip_grad=optim_wrapper.get("clip_grad"))
    return wrapper


def try_schedule(where: str, schedule: Mapping[str, Any], wrapper: OptimWrapper, steps: int) -> None:
    """Build a schedule and take its first steps; ``steps`` are those of the training."""
    if _is_known(found(PARAM_SCHEDULERS, schedule.get("type"))):
        with _told(where):
            built = PARAM_SCHEDULERS.build({"end": steps, **schedule, "optimizer": wrapper, "epoch_length": steps})
            for _ in range(0 if "monitor" in schedule else _STEPS):
                built.step()


def _is_known(kind: Any) -> bool:
    return isinstance(kind, type) and kind.__module__.startswith(KNOWN_CODE)


@contextmanager
def _told(where: str) -> Iterator[None]:
    """What a class says of its arguments becomes a message; its warnings come when it is used."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    except Exception as error:
        raise UserError(f"{where} cannot be built: {in_short(error)}") from error
