"""What training goes on from beside the weights: checked before any of it is used, and compared with the config."""

import math
from collections.abc import Mapping
from typing import Any

from mmengine.optim import OptimWrapper

from medseg_kd.errors import UserError

_NUMBER = (int, float)
# How an optimizer computes on its device, and what PyTorch added to its optimizers later.
_OF_THE_DEVICE = ("fused", "foreach", "capturable", "differentiable")
_LATER = {*_OF_THE_DEVICE, "maximize", "decoupled_weight_decay"}
# What a schedule counts, and what it takes from the optimizer.
_COUNTED = {"last_step", "base_values", "verbose", "total_iters"}
_OTHERWISE = "To start a new run from these weights use --cfg-options load_from={} without --resume"


def check_training_state(checkpoint: Mapping[str, Any], source: str) -> None:
    """Refuse a checkpoint whose ``meta``, ``message_hub``, ``optimizer`` or ``param_schedulers`` is not one.

    Args:
        checkpoint: As it was read.
        source: Its file, for messages.

    Raises:
        UserError: A part is missing or of another kind than it must be; it names the part.
    """
    if "optimizer" not in checkpoint:
        raise UserError(
            f"{source} holds weights but no optimizer state: training cannot go on from it. "
            + _OTHERWISE.format(source)
        )
    meta, hub = (part(checkpoint, key, Mapping, source) for key in ("meta", "message_hub"))
    for name in ("iter", "epoch"):
        if part(meta, name, int, source, "meta.") < 0:
            raise UserError(f"{source}: meta.{name} is {meta[name]}, expected a number of at least 0")
    if meta.get("seed") is not None and not 0 <= part(meta, "seed", int, source, "meta.") < 2**32:
        raise UserError(f"{source}: meta.seed is {meta['seed']}, expected a number from 0 to 2**32 - 1")
    scalars, info, kept = (
        part(hub, key, Mapping, source, "message_hub.") for key in ("log_scalars", "runtime_info", "resumed_keys")
    )
    for where, names in (("log_scalars", scalars), ("runtime_info", info), ("resumed_keys", kept)):
        _names(names, f"message_hub.{where}", source)
    for name in scalars:
        at = f"message_hub.log_scalars.{name}."
        buffer = part(scalars, name, Mapping, source, "message_hub.log_scalars.")
        log, count = (part(buffer, key, list, source, at) for key in ("log", "count"))
        if len(log) != len(count) or not all(isinstance(value, _NUMBER) for value in (*log, *count)):
            raise UserError(f"{source}: {at[:-1]}: log and count are not numbers of one length")
        part(buffer, "max_length", int, source, at)
    for name in info:
        if name.startswith("best_score"):
            part(info, name, _NUMBER, source, "message_hub.runtime_info.")
    optimizer = part(checkpoint, "optimizer", Mapping, source)
    groups = part(optimizer, "param_groups", list, source, "optimizer.")
    part(optimizer, "state", Mapping, source, "optimizer.")
    for key in ("base_param_settings", "loss_scaler"):
        if key in optimizer:
            part(optimizer, key, Mapping, source, "optimizer.")
    for index in range(len(groups)):
        group = part(groups, index, Mapping, source, "optimizer.param_groups.")
        part(group, "params", list, source, f"optimizer.param_groups.{index}.")
    schedules = checkpoint.get("param_schedulers", [])
    if not isinstance(schedules, list) or not all(isinstance(each, Mapping) for each in schedules):
        raise UserError(f"{source}: param_schedulers is not a list of mappings")


def part(whole: Any, key: Any, kind: Any, source: str, where: str = "") -> Any:
    """An entry of a mapping or list, which must be there and of a kind."""
    wanted = {Mapping: "a mapping", list: "a list", int: "an integer", _NUMBER: "a number"}[kind]
    missing = isinstance(whole, Mapping) and key not in whole
    value = None if missing else whole[key]
    if missing or not isinstance(value, kind) or (isinstance(value, bool) and not isinstance(kind, tuple)):
        found = "missing" if missing else f"a {type(value).__name__}"
        raise UserError(
            f"{source}: {where}{key} is {found}, expected {wanted}: training cannot go on from it. "
            + _OTHERWISE.format(source)
        )
    return value


def _names(mapping: Mapping[Any, Any], where: str, source: str) -> None:
    if odd := [key for key in mapping if not isinstance(key, str)]:
        raise UserError(f"{source}: {where} has a key {odd[0]!r}, expected text")


def restore_optimizer(wrapper: OptimWrapper, saved: Mapping[str, Any], source: str) -> list[str]:
    """Let an optimizer go on, on the device and in the way that it is built for.

    Args:
        wrapper: Of the run.
        saved: Its state in a checkpoint.
        source: The checkpoint's file, for messages.

    Returns:
        Settings of the config that the checkpoint's take the place of, a line each.

    Raises:
        UserError: It is another optimizer, or one of other parameters.
    """
    own, given = wrapper.optimizer.param_groups, saved["param_groups"]
    sizes = [[len(group["params"]) for group in groups] for groups in (given, own)]
    if sizes[0] != sizes[1]:
        found, wanted = (f"{sum(each)} parameters in {len(each)} group(s)" for each in sizes)
        raise UserError(
            f"{source}: its optimizer trains {found}, that of this run {wanted}: the config trains something else now. "
            + _OTHERWISE.format(source)
        )
    ignored: dict[str, None] = {}
    for one, other in zip(given, own, strict=True):
        names = [{key for key in group if not str(key).startswith("initial_")} - _LATER for group in (one, other)]
        if names[0] != names[1]:
            found, wanted = (", ".join(sorted(map(str, each - {"params"}))) for each in names)
            raise UserError(
                f"{source}: it comes from another optimizer, with the settings {found}; that of this run has {wanted}. "
                + _OTHERWISE.format(source)
            )
        for key in sorted(names[1] - {"params"}):
            start = f"initial_{key}"
            now, before = other.get(start, other[key]), one.get(start, one.get(key))
            if (start in one or start not in other) and _differ(now, before):
                ignored[f"optim_wrapper.optimizer.{key}: {now} in the config, {before} goes on"] = None
    _check_shapes(own, saved, source)
    device = [{key: group[key] for key in _OF_THE_DEVICE if key in group} for group in own]
    groups = [{**group, **flags} for group, flags in zip(given, device, strict=True)]
    wrapper.load_state_dict({**saved, "param_groups": groups})
    return list(ignored)


def _check_shapes(own: list[dict[str, Any]], saved: Mapping[str, Any], source: str) -> None:
    """Refuse averages of gradients that have not the shapes of their parameters."""
    shapes = {
        index: parameter.shape
        for group, given in zip(own, saved["param_groups"], strict=True)
        for parameter, index in zip(group["params"], given["params"], strict=True)
    }
    for index, state in saved["state"].items():
        for name, value in state.items() if isinstance(state, Mapping) else ():
            if getattr(value, "ndim", 0) and value.shape != shapes.get(index):
                raise UserError(
                    f"{source}: optimizer.state.{index}.{name} has the shape {tuple(value.shape)}, its parameter "
                    f"{tuple(shapes.get(index, ()))}. " + _OTHERWISE.format(source)
                )


def state_of(schedule: Any) -> dict[str, Any]:
    """The state of a parameter schedule, without the functions that its arguments choose."""
    return {key: value for key, value in schedule.state_dict().items() if not callable(value)}


def restore_schedules(schedules: list[Any], saved: list[Any], source: str) -> list[str]:
    """Let parameter schedules go on; arguments, result and errors as for :func:`restore_optimizer`."""
    kinds = [
        [sorted(key for key in state if not str(key).startswith("_")) for state in states]
        for states in (saved, map(state_of, schedules))
    ]
    if kinds[0] != kinds[1]:
        raise UserError(
            f"{source}: its schedules of learning rates ({len(saved)}) are of other kinds than param_scheduler "
            f"({len(schedules)}). " + _OTHERWISE.format(source)
        )
    ignored = []
    for index, (schedule, state) in enumerate(zip(schedules, saved, strict=True)):
        for key, now in state_of(schedule).items():
            if isinstance(now, _NUMBER):
                part(state, key, _NUMBER, source, f"param_schedulers.{index}.")
            if not key.startswith("_") and key not in _COUNTED and _differ(now, state[key]):
                ignored.append(f"param_scheduler.{index}.{key}: {now} in the config, {state[key]} goes on")
        schedule.load_state_dict({key: value for key, value in state.items() if key in schedule.__dict__})
    return ignored


def _differ(one: Any, other: Any) -> bool:
    """Whether two settings do; a list equals a tuple."""
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) != len(other) or any(map(_differ, one, other))
    if isinstance(one, _NUMBER) and isinstance(other, _NUMBER):
        return not math.isclose(one, other, rel_tol=1e-12)
    return one != other
