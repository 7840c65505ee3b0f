"""What a run is computed with, and its log."""

import logging
import os
import platform
import re
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import MMLogger
from mmengine.utils import is_installed

from medseg_kd import __version__
from medseg_kd.files import write_text
from medseg_kd.models.profiling import device_name

_UNWANTED = re.compile(r'^"(FileClient|HardDiskBackend)"|^Resumed iteration number is not divisible')
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
        write_text(Path(runner.log_dir, "environment.txt"), text)
        _warn_of_hidden_gpus(runner.logger)
    runner.logger.info(
        f"medseg_kd {__version__} on PyTorch {torch.__version__}, {device}, {runner.world_size} process(es), "
        f"seed {runner.seed}; run folder {os.path.relpath(runner.work_dir)}"
    )


def _warn_of_hidden_gpus(logger: MMLogger) -> None:
    """Tell where GPUs were asked for that PyTorch does not find: it would train on the CPU without a word."""
    asked = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if asked.strip() not in ("", "-1") and not torch.cuda.is_available():
        logger.warning(
            f"CUDA_VISIBLE_DEVICES is {asked!r}, but PyTorch {torch.__version__} finds no such GPU: this runs on the "
            "CPU. See nvidia-smi -L, and tools/doctor.py"
        )


def quieten(logger: MMLogger) -> MMLogger:
    """A logger without MMEngine's warnings that are not for users, and which neither a full disk nor a letter stops."""
    logger.addFilter(lambda record: not _UNWANTED.search(record.getMessage()))
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler) and handler.stream is not None:
            handler.stream.reconfigure(encoding="utf-8", errors="backslashreplace")
            handler.handleError = _unless_disk_is_full(handler.handleError)  # type: ignore[assignment, method-assign]
    return logger


def _unless_disk_is_full(report: Callable[[logging.LogRecord], None]) -> Callable[[logging.LogRecord], None]:
    """What ``logging`` does with an error of a handler, but that a file cannot be written: saving tells that."""

    def handle(record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            report(record)

    return handle
