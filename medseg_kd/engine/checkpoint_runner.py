"""What a run saves, and what it goes on from."""

import time
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process

from medseg_kd import __version__
from medseg_kd.engine.agreement import check_checkpoint
from medseg_kd.engine.batches import pending_gradients, progress_of, restore_gradients, restore_progress, set_order
from medseg_kd.engine.data_runner import DataRunner
from medseg_kd.engine.info import TrainInfoHook
from medseg_kd.engine.plain import message_hub_from_plain, to_plain
from medseg_kd.engine.training_state import check_training_state, restore_optimizer, restore_schedules, state_of
from medseg_kd.errors import UserError
from medseg_kd.models.checkpoint import load_weights, read_checkpoint, write_checkpoint
from medseg_kd.models.checkpoint_content import check_finite


class CheckpointRunner(DataRunner):
    """A runner with plain checkpoints, loaded strictly and resumed exactly.

    A model may offer ``checkpoint_state()`` and ``load_checkpoint_state(checkpoint, source)`` to say what of it is
    saved; any other is saved whole.
    """

    _load_from: str | None
    resumed_from: str | None = None
    """The checkpoint that training went on from."""

    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict | None = None,
        by_epoch: bool = True,
        backend_args: dict | None = None,
    ) -> None:
        """Write ``out_dir/filename``, whole or not at all; arguments as in MMEngine.

        Keys: ``state_dict``, ``message_hub``, ``meta``, and as asked ``optimizer``, with ``gradients`` where some are
        accumulated, and ``param_schedulers``; a distillation adds ``connectors``. All processes call it, and the first
        one writes.
        """
        self.average_statistics()
        gradients = pending_gradients(self.optim_wrapper)
        if not is_main_process():
            return
        for hook in self.hooks:
            if isinstance(hook, TrainInfoHook):
                hook.flush(self)
        meta = {
            "epoch": self.epoch + 1 if by_epoch else self.epoch,
            "iter": self.iter if by_epoch else self.iter + 1,
            **(meta or {}),
            "cfg": self.config_text,
            "seed": self.seed,
            "experiment_name": self.experiment_name,
            "time": time.strftime("%Y%m%d_%H%M%S"),
            "medseg_kd_version": __version__,
            "dataset_meta": getattr(self.train_dataloader.dataset, "metainfo", None),
            **({} if self.data_spec is None else {"spec": self.data_spec.to_json()}),
        }
        meta["batch"] = progress_of(self.train_dataloader, meta["iter"])
        model = self.bare_model
        state = model.checkpoint_state() if hasattr(model, "checkpoint_state") else {"state_dict": model.state_dict()}
        checkpoint: dict[str, Any] = {"meta": meta, **state, "message_hub": self.message_hub.state_dict()}
        if save_optimizer:
            checkpoint["optimizer"] = self.optim_wrapper.state_dict()
            checkpoint.update({"gradients": gradients} if gradients else {})
        if save_param_scheduler and self.param_schedulers:
            checkpoint["param_schedulers"] = [state_of(schedule) for schedule in self.param_schedulers]
        self.call_hook("before_save_checkpoint", checkpoint=checkpoint)
        write_checkpoint(to_plain(checkpoint), Path(out_dir, filename))

    def load_checkpoint(self, filename: str, map_location: Any = "cpu", **_: Any) -> dict[str, Any]:
        """Read a checkpoint and load its weights strictly; returns the checkpoint.

        One of other images is refused, but as a start of training, where it is said.
        """
        return self._load_weights_of(read_checkpoint(filename, map_location), filename)

    def _load_weights_of(self, checkpoint: dict[str, Any], filename: str) -> dict[str, Any]:
        """Load the weights of a checkpoint that was read, and return it."""
        taking = getattr(self.bare_model, "data_preprocessor", None)
        try:
            check_checkpoint(checkpoint.get("meta"), self.data_spec, filename, preprocessor=taking)
        except UserError as error:
            if not self._is_training or self._resume:
                raise
            self.logger.warning(f"training starts from other images: {error}")
        model = self.bare_model
        own = {f"module.{key}": value for key, value in getattr(model, "student", model).state_dict().items()}
        check_finite(checkpoint.get("ema_state_dict", {}), own, f"{filename} (its averaged weights)")
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        if hasattr(model, "load_checkpoint_state"):
            model.load_checkpoint_state(checkpoint, filename)
        else:
            load_weights(model, checkpoint["state_dict"], filename)
        self._has_loaded = True
        self.logger.info(f"loaded {filename}")
        return checkpoint

    def resume(
        self,
        filename: str,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location: Any = "cpu",
    ) -> None:
        """Go on from a training checkpoint, not from weights alone; a finished run stays finished.

        Nothing in the checkpoint is run. What it holds takes the place of the config's optimizer settings, schedules
        and seed: the log names those that differ.
        """
        checkpoint = read_checkpoint(filename, "cpu" if map_location == "default" else map_location)
        check_training_state(checkpoint, filename)
        meta = checkpoint["meta"]
        if meta["iter"] >= self.max_iters:
            self.logger.warning(
                f"{filename} is at iteration {meta['iter']} and train_cfg.max_iters is {self.max_iters}: nothing is "
                "left to train. Raise train_cfg.max_iters to go on"
            )
        self._load_weights_of(checkpoint, filename)
        self.resumed_from, self.started_at = filename, meta["iter"]
        loop: Any = self.train_loop
        loop._epoch, loop._iter = meta["epoch"], meta["iter"]
        self.message_hub.load_state_dict(message_hub_from_plain(checkpoint["message_hub"]))
        ignored = self._resume_seed(meta.get("seed"))
        if resume_optimizer:
            ignored += restore_optimizer(self.optim_wrapper, checkpoint["optimizer"], filename)
        if resume_param_scheduler and (self.param_schedulers or "param_schedulers" in checkpoint):
            saved = checkpoint.get("param_schedulers", [])
            ignored += restore_schedules(self.param_schedulers or [], saved, filename)
        if ignored:
            self.logger.warning(
                f"{len(ignored)} settings of the config are not used: a resumed run goes on with its checkpoint's:\n  "
                + "\n  ".join(ignored)
                + f"\nTo use them, start a new run: --cfg-options load_from={filename} with another --work-dir and "
                "without --resume"
            )
        if changed := restore_progress(self.train_dataloader, meta, filename):
            self.logger.warning(changed)
        if resume_optimizer and (lost := restore_gradients(self.optim_wrapper, checkpoint, filename)):
            self.logger.warning(f"gradients that were accumulated are lost: {lost}")
        self.logger.info(f"resumed at iteration {self.iter}, epoch {self.epoch}")

    def _resume_seed(self, seed: int | None) -> list[str]:
        """Take the seed of a run that goes on, for the order of its images too; what is ignored of the config."""
        if seed is None or seed == self.seed:
            return []
        configured = self._randomness_cfg.get("seed")
        self._randomness_cfg.update(seed=seed)
        self.set_randomness(**self._randomness_cfg)
        set_order(self.train_dataloader, seed)
        return [] if configured is None else [f"randomness.seed: {configured} in the config, {seed} goes on"]
