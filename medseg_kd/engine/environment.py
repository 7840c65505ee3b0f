"""What a run was made with."""

import platform
from importlib.metadata import version

import torch

from medseg_kd import __version__

_PACKAGES = ("torch", "onedl-mmengine", "onedl-mmcv", "onedl-mmsegmentation", "monai", "numpy")


def environment() -> dict[str, str | None]:
    """Versions and platform, name to text."""
    return {
        "medseg_kd": __version__,
        "Python": platform.python_version(),
        "platform": platform.platform(),
        "CUDA": torch.version.cuda,
        **{name: _installed(name) for name in _PACKAGES},
    }


def _installed(package: str) -> str:
    """Version of an installed package, or a word that it is not there."""
    try:
        return version(package)
    except ImportError:
        return "not installed"
