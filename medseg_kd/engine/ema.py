"""Averaged weights of what is trained."""

from typing import Any

import mmengine.hooks
from mmengine.registry import MODELS

from medseg_kd.registry import HOOKS


@HOOKS.register_module()
class EMAHook(mmengine.hooks.EMAHook):
    """MMEngine's hook, which of a distillation averages the student alone; its arguments are the same.

    A checkpoint has the averaged weights as ``state_dict``, under the student's own names, and those that training goes
    on with as ``ema_state_dict``.
    """

    def before_run(self, runner: Any) -> None:
        """Copy the segmentor that is trained."""
        model = runner.bare_model
        self.src_model = getattr(model, "student", model)
        self.ema_model = MODELS.build(self.ema_cfg, default_args=dict(model=self.src_model))
