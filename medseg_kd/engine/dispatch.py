"""MMEngine's ``Runner.from_cfg``, which gives a config of this project the runner that it names.

Otherwise it would train on the cases that are held out, and save what cannot be read safely.
"""

from typing import Any

import mmengine.runner

from medseg_kd.engine.runner import Runner
from medseg_kd.registry import RUNNERS, found

_of_mmengine = mmengine.runner.Runner.from_cfg.__func__


def _from_cfg(cls: type[mmengine.runner.Runner], cfg: Any) -> mmengine.runner.Runner:
    """A runner of ``runner_type``; of this project where a config does not say but has its scope."""
    own = Runner if cfg.get("default_scope") == "medseg_kd" else cls
    if cls is mmengine.runner.Runner and issubclass(kind := found(RUNNERS, cfg.get("runner_type", own)), Runner):
        return kind.from_cfg(cfg)
    return _of_mmengine(cls, cfg)


mmengine.runner.Runner.from_cfg = classmethod(_from_cfg)
