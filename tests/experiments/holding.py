"""A hook that lets a test interrupt a run in the middle of its training, however fast the machine is."""

import time
from pathlib import Path

from mmengine.hooks import Hook

from medseg_kd.registry import HOOKS

HELD = Path("held.txt")
"""Names the folder of the run that is to wait; the run empties it when it does, and goes on when it is gone."""


@HOOKS.register_module()
class HoldHook(Hook):
    """Wait before the fifth iteration."""

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Only the first time: the run that goes on passes."""
        if runner.iter == 4 and HELD.is_file() and Path(runner.work_dir) == Path(HELD.read_text()).resolve():
            HELD.write_text("")
            while HELD.is_file():
                time.sleep(0.02)
