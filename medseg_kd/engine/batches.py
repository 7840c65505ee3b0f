"""Where a run that goes on is in the order of its slices, and the gradients that it has accumulated."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.dist import all_reduce_params, get_world_size
from torch.utils.data import DataLoader

from medseg_kd.engine.training_state import part
from medseg_kd.errors import UserError


def set_order(loader: DataLoader, seed: int) -> None:
    """Let a loader's slices come in the order of a seed."""
    for sampler in _samplers(loader, "seed"):
        sampler.seed = seed


def progress_of(loader: DataLoader, iteration: int) -> dict[str, int]:
    """What a checkpoint says of batches: their size, the processes, and the slices that all of them have taken.

    Empty where the loader does not tell; without the slices where its sampler cannot start anywhere.
    """
    size = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None)
    if size is None:
        return {}
    told = {"batch_size": size, "processes": get_world_size()}
    for sampler in _samplers(loader, "offset"):
        told["slices"] = sampler.offset + iteration * size * get_world_size()
    return told


def restore_progress(loader: DataLoader, meta: Mapping[str, Any], source: str) -> str:
    """Start a loader after the slices that a run has taken, also where its batches had another size.

    Args:
        loader: Of the run that goes on.
        meta: Of the checkpoint.
        source: Its file, for messages.

    Returns:
        What has changed, in words; empty where nothing has, or the checkpoint does not tell.

    Raises:
        UserError: What the checkpoint says is not what :func:`progress_of` gives.
    """
    own = progress_of(loader, meta["iter"])
    if not own or not meta.get("batch"):
        return ""
    saved = part(meta, "batch", Mapping, source, "meta.")
    before = {key: part(saved, key, int, source, "meta.batch.") for key in own if key != "slices" or key in saved}
    if min(before.values()) < 0:
        raise UserError(f"{source}: meta.batch is {dict(saved)}, expected no number below 0")
    for sampler in _samplers(loader, "offset") if "slices" in before else ():
        sampler.offset += before["slices"] - own["slices"]
    then, now = (f"{each['batch_size']} slices in each of {each['processes']} process(es)" for each in (before, own))
    if then == now:
        return ""
    return f"batches had {then}, and have {now} now. " + (
        "Training goes on with the slices that come next in its order; iterations, intervals and learning rates count "
        "batches as before, whatever their size"
    )


def _samplers(loader: DataLoader, attribute: str) -> Iterator[Any]:
    """The sampler of a loader, where it has an attribute."""
    samplers = (loader.sampler, getattr(loader.batch_sampler, "sampler", None))  # mostly the same
    yield from [each for each in samplers if hasattr(each, attribute)][:1]


def pending_gradients(wrapper: Any) -> dict[str, Any]:
    """Gradients that an optimizer has accumulated and not used yet, the mean of all processes; all must call it."""
    counts = getattr(wrapper, "_accumulative_counts", 1)
    if counts == 1 or wrapper._inner_count % counts == 0:
        return {}
    values = [each.grad for group in wrapper.param_groups for each in group["params"]]
    all_reduce_params([each for each in values if each is not None], op="mean")
    return {"accumulative_counts": counts, "values": values}


def restore_gradients(wrapper: Any, checkpoint: Mapping[str, Any], source: str) -> str:
    """Give an optimizer the gradients of :func:`pending_gradients`.

    Returns:
        What is lost, in words.

    Raises:
        UserError: They have not the shapes of its parameters.
    """
    counts, done = getattr(wrapper, "_accumulative_counts", 1), checkpoint["meta"]["iter"]
    if "gradients" not in checkpoint:
        return f"those of the last {done % counts} batches are not in {source}" if done % counts else ""
    saved = part(checkpoint, "gradients", Mapping, source)
    before = part(saved, "accumulative_counts", int, source, "gradients.")
    values = part(saved, "values", list, source, "gradients.")
    if before != counts:
        return f"optim_wrapper.accumulative_counts was {before}, and is {counts} now"
    parameters = [each for group in wrapper.param_groups for each in group["params"]]
    shapes = [getattr(each, "shape", own.shape) for each, own in zip(values, parameters, strict=False)]
    if len(values) != len(parameters) or shapes != [each.shape for each in parameters]:
        raise UserError(f"{source}: gradients.values have not the shapes of the parameters that are trained")
    for parameter, value in zip(parameters, values, strict=True):
        parameter.grad = None if value is None else value.to(parameter)
    return ""
