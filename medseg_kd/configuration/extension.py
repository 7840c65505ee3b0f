"""A finished run goes on for more iterations."""

from collections.abc import Mapping, MutableMapping

from mmengine.config import Config
from mmengine.runner import EpochBasedTrainLoop

from medseg_kd.configuration.explaining import file_of
from medseg_kd.configuration.run_folder import resume
from medseg_kd.errors import UserError
from medseg_kd.models.checkpoint import last_whole_checkpoint, read_checkpoint
from medseg_kd.registry import LOOPS, found


def extend(cfg: Config, iterations: int) -> str:
    """Let a run go on from its last checkpoint to more iterations, with the schedule that it has.

    A schedule ends where it ended: one without an ``end`` in the config has that of the checkpoint.

    Args:
        cfg: Of the run; it is changed.
        iterations: In all, those that are done included.

    Returns:
        What the learning rate does, for the user.

    Raises:
        UserError: There is nothing to go on from, it is that far already, or it counts epochs.
    """
    loop = cfg["train_cfg"]
    if loop.get("by_epoch", False) or found(LOOPS, loop.get("type")) is EpochBasedTrainLoop:
        raise UserError(f"--extend counts iterations, and {file_of(cfg)} trains by epochs: raise train_cfg.max_epochs")
    if not resume(cfg):
        raise UserError(
            f"--extend: {cfg.work_dir} holds no iter_<N>.pth to go on from. Train it first without --extend"
        )
    path, _ = last_whole_checkpoint(cfg.work_dir)
    assert path is not None
    checkpoint = read_checkpoint(path)
    meta = checkpoint.get("meta")
    done = meta.get("iter") if isinstance(meta, Mapping) else None
    if not isinstance(done, int) or done >= iterations:
        raise UserError(f"--extend {iterations}: {path} is at iteration {done}, so more than that is needed")
    schedules, end = cfg.get("param_scheduler") or [], 0
    schedules = [schedules] if isinstance(schedules, Mapping) else schedules
    states = checkpoint.get("param_schedulers") or [{}] * len(schedules)
    for schedule, state in zip(schedules, states, strict=False):
        if isinstance(schedule, MutableMapping) and not schedule.get("by_epoch", True):
            end = max(end, schedule.setdefault("end", state.get("end", loop["max_iters"])))
    loop["max_iters"] = iterations
    goes_on = f"training goes on from iteration {done} to {iterations}; the learning rate"
    if end >= iterations:
        return f"{goes_on} follows its schedule, which ends at {end}"
    return (
        f"{goes_on} stays where its schedule ends, at iteration {end}. For one over all iterations train anew, with "
        "train_cfg.max_iters and param_scheduler set for them"
    )
