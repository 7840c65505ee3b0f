"""What a run is computed with."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from mmengine.utils import is_installed

from medseg_kd import __version__
from medseg_kd.models.profiling import device_name

_PACKAGES = ("torch", "onedl-mmengine", "onedl-mmcv", "onedl-mmsegmentation", "monai", "numpy")


def log_environment(runner: Any, env_cfg: Any = None) -> None:
    """One line on the terminal, the details in ``environment.txt`` beside the log file."""
    device = device_name(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    details = {
        "medseg_kd": __version__,
        "Python": platform.python_version(),
        "platform": platform.platform(),
        "device": device,
        "CUDA": torch.version.cuda,
        "processes": runner.world_size,
        "seed": runner.seed,
        "deterministic": runner.deterministic,
        **{name: version(name) if is_installed(name) else "not installed" for name in _PACKAGES},
    }
    if runner.rank == 0:
        text = "".join(f"{key}: {value}\n" for key, value in details.items())
        Path(runner.log_dir, "environment.txt").write_text(text, encoding="utf-8")
    runner.logger.info(
        f"medseg_kd {__version__} on PyTorch {torch.__version__}, {device}, {runner.world_size} process(es), "
        f"seed {runner.seed}; run folder {os.path.relpath(runner.work_dir)}"
    )
