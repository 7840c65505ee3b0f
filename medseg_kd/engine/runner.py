"""The runner: MMEngine's, built and checked as a whole, with a terminal that can be read."""

import copy
from functools import cached_property
from pathlib import Path
from typing import Any

import mmengine.hooks
from mmengine.dist import is_main_process
from mmengine.hooks import Hook, IterTimerHook, LoggerHook, ParamSchedulerHook, RuntimeInfoHook
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.visualization import Visualizer
from torch import nn

from medseg_kd.configuration import complete_run, find_teachers, give_soft_labels, settle_imports, type_errors_explained
from medseg_kd.engine.agreement import check_checkpoint, check_data, complete_model
from medseg_kd.engine.checkpoint_runner import CheckpointRunner
from medseg_kd.engine.checkpoints import CheckpointHook
from medseg_kd.engine.environment import log_environment, quieten
from medseg_kd.engine.hooks import EMAHook, NormStatisticsHook
from medseg_kd.engine.info import TrainInfoHook
from medseg_kd.engine.refusal import done_or_nothing
from medseg_kd.engine.stopping import alone_and_stoppable
from medseg_kd.engine.tracking import track_training, with_own_trackers
from medseg_kd.engine.visualization import LateVisualizer, SegVisualizationHook
from medseg_kd.errors import UserError
from medseg_kd.files import write_text
from medseg_kd.models.checkpoint import last_whole_checkpoint
from medseg_kd.models.mmseg_adapter import adapt
from medseg_kd.registry import HOOKS, RUNNERS, found

# Two of them would schedule, average, count or save twice.
_ONCE = (
    mmengine.hooks.CheckpointHook,
    mmengine.hooks.EMAHook,
    IterTimerHook,
    LoggerHook,
    ParamSchedulerHook,
    RuntimeInfoHook,
)
_OURS = {own.__base__: own for own in (CheckpointHook, EMAHook, SegVisualizationHook, TrainInfoHook)}


@RUNNERS.register_module()
class Runner(CheckpointRunner):
    """Trains, validates and tests what a config describes."""

    @classmethod
    def from_cfg(cls, cfg: Any) -> "Runner":
        """Build a runner as ``train.py`` does, from a config that is completed and checked; the given one stays."""
        settle_imports(cfg)
        cfg = copy.deepcopy(cfg)
        complete_run(cfg)
        give_soft_labels(cfg)
        find_teachers(cfg)
        with type_errors_explained(cfg):
            complete_model(cfg)
            return super().from_cfg(cfg)

    def build_model(self, model: nn.Module | dict[str, Any]) -> nn.Module:
        """Build the model; one of MMSegmentation learns to take this project's batches."""
        return adapt(super().build_model(model))

    def build_visualizer(self, visualizer: Any = None) -> Visualizer:
        """Build the visualizer, which tracks curves by this project's classes, see :mod:`medseg_kd.engine.tracking`.

        Of a config that names none it is one that imports Matplotlib only to draw.
        """
        if visualizer is not None:
            return super().build_visualizer(with_own_trackers(visualizer))
        kept = [{"type": "LocalVisBackend"}]
        return LateVisualizer.get_instance(self.experiment_name, vis_backends=kept, save_dir=self._log_dir)

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
            whose, taking = "the teacher's checkpoint", getattr(teacher.model, "data_preprocessor", None)
            check_checkpoint(teacher.checkpoint_meta, self.data_spec, teacher.source, whose, taking)
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
            self._refuse_second(kind)
        super().register_hook(hook, priority)

    def _refuse_second(self, kind: Any) -> None:
        """Refuse a hook that would do again what one does already."""
        if isinstance(kind, type) and any(
            issubclass(kind, one) and isinstance(own, one) for one in _ONCE for own in self.hooks
        ):
            raise UserError(
                f"custom_hooks: {kind.__name__} is there already, and would do its work twice: leave one out, or set "
                "it in default_hooks"
            )

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
        track_training(self.visualizer)
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

    def get_hooks_info(self) -> str:
        """Names of the hooks in their order."""
        return ", ".join(type(hook).__name__ for hook in self.hooks)

    _log_env = log_environment
