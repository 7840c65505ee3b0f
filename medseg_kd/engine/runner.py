"""The runner: MMEngine's, with plain checkpoints, strict loading and a terminal that can be read."""

import copy
import time
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, TestLoop
from torch import nn

from medseg_kd import __version__
from medseg_kd.configuration import (
    complete_run,
    find_teachers,
    settle_imports,
    type_errors_explained,
)
from medseg_kd.datasets import DataSpec
from medseg_kd.engine.agreement import (
    check_checkpoint,
    check_data,
    check_model,
    check_tested,
    check_validation,
    complete_model,
    owner_of,
)
from medseg_kd.engine.batches import pending_gradients, progress_of, restore_gradients, restore_progress, set_order
from medseg_kd.engine.checkpoints import CheckpointHook
from medseg_kd.engine.device_runner import DeviceRunner
from medseg_kd.engine.environment import log_environment, quieten
from medseg_kd.engine.hooks import EMAHook, NormStatisticsHook
from medseg_kd.engine.info import TrainInfoHook
from medseg_kd.engine.loading import check_shared_memory, first_batch_bytes, shared_bytes
from medseg_kd.engine.plain import message_hub_from_plain, to_plain
from medseg_kd.engine.refusal import done_or_nothing
from medseg_kd.engine.stopping import alone_and_stoppable
from medseg_kd.engine.training_state import check_training_state, restore_optimizer, restore_schedules
from medseg_kd.engine.visualization import SegVisualizationHook
from medseg_kd.errors import UserError
from medseg_kd.files import write_text
from medseg_kd.models.checkpoint import last_whole_checkpoint, load_weights, read_checkpoint, write_checkpoint
from medseg_kd.models.checkpoint_content import check_finite
from medseg_kd.models.mmseg_adapter import adapt
from medseg_kd.registry import HOOKS, RUNNERS, found

_OURS = {own.__base__: own for own in (CheckpointHook, EMAHook, SegVisualizationHook, TrainInfoHook)}


@RUNNERS.register_module()
class Runner(DeviceRunner):
    """Trains, validates and tests what a config describes.

    A model may offer ``checkpoint_state()`` and ``load_checkpoint_state(checkpoint, source)`` to say what of it is
    saved; any other is saved whole.
    """

    data_spec: DataSpec | None = None
    """What the images of this run are, once a loop with data that tell it is built."""

    _load_from: str | None
    _shared_bytes = 0
    resumed_from: str | None = None
    """The checkpoint that training went on from."""

    @classmethod
    def from_cfg(cls, cfg: Any) -> "Runner":
        """Build a runner as ``train.py`` does, from a config that is completed and checked; the given one stays."""
        settle_imports(cfg)
        cfg = copy.deepcopy(cfg)
        complete_run(cfg)
        find_teachers(cfg)
        with type_errors_explained(cfg):
            complete_model(cfg)
            return super().from_cfg(cfg)

    def build_train_loop(self, loop: Any) -> BaseLoop:
        """Build the loop, and compare its data with the model."""
        return self._with_data_checked(super().build_train_loop(loop))

    def build_val_loop(self, loop: Any) -> BaseLoop:
        """Build the loop, and compare its data with the model and with what is trained on."""
        return self._with_data_checked(super().build_val_loop(loop))

    def build_test_loop(self, loop: Any) -> BaseLoop:
        """Build the loop, and compare its data with the model."""
        return self._with_data_checked(super().build_test_loop(loop))

    def _with_data_checked(self, loop: BaseLoop) -> BaseLoop:
        """A loop whose data are those that the model, and the loop before it, are made for, and can be loaded."""
        if (dataset := owner_of(loop.dataloader.dataset, "spec")) is not None:
            check_model(self.bare_model, dataset.spec, dataset.data_root)
            if self.data_spec is not None and (other := self.data_spec.differences(dataset.spec)):
                raise UserError(f"{dataset.data_root}: not the images that are trained on:\n  " + "\n  ".join(other))
            self.data_spec = dataset.spec
            if self._is_training:
                check_validation(dataset)
            elif isinstance(loop, TestLoop):
                check_tested((self.cfg.get("train_dataloader") or {}).get("dataset"), dataset)
        self._shared_bytes += shared_bytes(loop.dataloader, first_batch_bytes(loop.dataloader))
        check_shared_memory(self._shared_bytes)
        return loop

    @property
    def _is_training(self) -> bool:
        return isinstance(self._train_loop, BaseLoop)

    def build_model(self, model: nn.Module | dict[str, Any]) -> nn.Module:
        """Build the model; one of MMSegmentation learns to take this project's batches."""
        return adapt(super().build_model(model))

    def load_or_resume(self) -> None:
        """Load or resume as the config says, then wrap the model for several processes."""
        if self._resume and self._load_from is None and not self._has_loaded:
            found, damaged = last_whole_checkpoint(self.work_dir)
            for each in damaged:
                self.logger.warning(f"{each}\nTraining goes on from {found} instead")
            self._load_from = str(found) if found else None
            if found is None:
                self.logger.warning(f"{self.work_dir} holds no checkpoint to resume from: training starts anew")
        if self._load_from is not None:
            super().load_or_resume()
        for teacher in getattr(self.bare_model, "teachers", ()):
            check_checkpoint(teacher.checkpoint_meta, self.data_spec, teacher.source, "the teacher's checkpoint")
        if self.distributed and not is_model_wrapper(self.model):
            self.model = self._distributed_model()
        self.dump_config()

    def register_hooks(self, default_hooks: dict | None = None, custom_hooks: list | None = None) -> None:
        """Register the hooks of the config, and what every run needs."""
        super().register_hooks(default_hooks, custom_hooks)
        self.register_hook(NormStatisticsHook())

    def register_hook(self, hook: Hook | dict[str, Any], priority: Any = None) -> None:
        """Register a hook; where a config names one of others that this project has of that name, it gets ours."""
        if isinstance(hook, dict):
            kind = found(HOOKS, hook.get("type"))
            hook = {**hook, "type": _OURS.get(kind, kind)}
        super().register_hook(hook, priority)

    def dump_config(self) -> None:
        """Write the config of a training into the run folder, once all is built; a test leaves it as it is."""
        if self._is_training and is_main_process():
            name = Path(self.cfg.filename).name if self.cfg.filename else f"{self.timestamp}.py"
            path = Path(self.work_dir, name)
            self.dumped = None if path.exists() else path
            write_text(path, self.config_text if name.endswith(".py") else self.cfg.dump())

    @cached_property
    def config_text(self) -> str:
        """The config as Python, which takes longer to write than a small checkpoint."""
        return self.cfg.pretty_text

    @done_or_nothing
    @alone_and_stoppable
    def train(self) -> nn.Module:
        """Look for the data, write the config into the run folder and train."""
        check_data(self.cfg)
        with type_errors_explained(self.cfg, building=False):
            return super().train()

    @done_or_nothing
    def test(self) -> dict[str, float]:
        """Test what the config loads."""
        with type_errors_explained(self.cfg, building=False):
            return super().test()

    @done_or_nothing
    def val(self) -> dict[str, float]:
        """Validate; nothing is saved, as there is no training whose best checkpoint it would be."""
        hooks, self._hooks = self.hooks, [hook for hook in self.hooks if not isinstance(hook, CheckpointHook)]
        try:
            return super().val()
        finally:
            self._hooks = hooks

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """MMEngine's logger, see :func:`~medseg_kd.engine.environment.quieten`."""
        return quieten(super().build_logger(*args, **kwargs))

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
            checkpoint["param_schedulers"] = [scheduler.state_dict() for scheduler in self.param_schedulers]
        self.call_hook("before_save_checkpoint", checkpoint=checkpoint)
        write_checkpoint(to_plain(checkpoint), Path(out_dir, filename))

    def load_checkpoint(self, filename: str, map_location: Any = "cpu", **_: Any) -> dict[str, Any]:
        """Read a checkpoint and load its weights strictly; returns the checkpoint.

        One of other images is refused, but as a start of training, where it is said.
        """
        return self._load_weights_of(read_checkpoint(filename, map_location), filename)

    def _load_weights_of(self, checkpoint: dict[str, Any], filename: str) -> dict[str, Any]:
        """Load the weights of a checkpoint that was read, and return it."""
        try:
            check_checkpoint(checkpoint.get("meta"), self.data_spec, filename)
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

    def get_hooks_info(self) -> str:
        """Names of the hooks in their order."""
        return ", ".join(type(hook).__name__ for hook in self.hooks)

    _log_env = log_environment
