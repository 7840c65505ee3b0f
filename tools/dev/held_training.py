"""Trainings that stop where they would start, and go on as far as a measurement asks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import IterBasedTrainLoop
from torch import nn

from medseg_kd.engine import Runner

NEVER = 10**7
"""Iterations after which something would happen that is not measured."""


class HeldLoop(IterBasedTrainLoop):
    """A training loop that stops where it would start; :meth:`advance` goes on."""

    def run(self) -> nn.Module:
        """Prepare to train."""
        self.runner.call_hook("before_train")
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        return self.runner.model

    def advance(self, iterations: int) -> None:
        """Train for some iterations."""
        for _ in range(iterations):
            self.run_iter(next(self.dataloader_iterator))


def held_run(cfg: Config, folder: Path, changes: Mapping[str, Any]) -> Runner:
    """A run of a config, with some of its keys changed, that is ready to train and neither validates nor saves."""
    cfg = cfg.copy()
    cfg.merge_from_dict(dict(changes))
    cfg.train_cfg = dict(type=HeldLoop, max_iters=NEVER, val_interval=NEVER)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    cfg.default_hooks.checkpoint.interval = NEVER
    cfg.work_dir, cfg.experiment_name = str(folder), str(folder)
    if "teacher_ckpt" in cfg.model:
        cfg.model.teacher_ckpt = None
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner
