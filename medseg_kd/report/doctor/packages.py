"""Python and the packages: versions, and those that do not go together."""

import importlib
import importlib.metadata
import platform
import sys
from collections.abc import Iterator
from typing import Any

from medseg_kd.report.doctor.results import BROKEN, NOTE, OK, Row, check

_NEEDED = {
    "numpy": "numpy",
    "scipy": "scipy",
    "torch": "torch",
    "h5py": "h5py",
    "SimpleITK": "SimpleITK",
    "pillow": "PIL",
    "einops": "einops",
    "rich": "rich",
    "prettytable": "prettytable",
    "monai": "monai",
    "onedl-mmengine": "mmengine",
    "onedl-mmcv": "mmcv",
    "onedl-mmsegmentation": "mmseg",
}
"""Packages and the names that they are imported by."""
_ORIGINALS = {
    "mmengine": "onedl-mmengine",
    "mmcv": "onedl-mmcv",
    "mmcv-lite": "onedl-mmcv",
    "mmsegmentation": "onedl-mmsegmentation",
}


@check("python")
def _python(cfg: Any) -> Iterator[Row]:
    found = f"{platform.python_version()} at {sys.executable}, {platform.platform()}"
    old = sys.version_info < (3, 10)
    yield BROKEN if old else OK, found, "install Python 3.10 or newer" if old else ""


@check("opencv", "pip install opencv-python-headless, which needs no libGL")
def _opencv(cfg: Any) -> Iterator[Row]:
    yield OK, f"cv2 {importlib.import_module('cv2').__version__}", ""


@check("packages")
def _packages(cfg: Any) -> Iterator[Row]:
    own = {theirs: _version(original) for original, theirs in _ORIGINALS.items() if _version(original)}
    for package, module in _NEEDED.items():
        version = _version(package) or own.get(package)
        try:
            importlib.import_module(module)
            yield OK, f"{package} {version}", ""
        except Exception as error:
            old = (_version("numpy") or "").startswith("2.") and "numpy" in str(error).lower()
            why = "it was built for NumPy 1: " if old and module != "numpy" else ""
            text = f"{why}{type(error).__name__}: {' '.join(str(error).split())[-200:]}"
            install = "pip install" if version is None else "pip install --upgrade --force-reinstall --no-deps"
            yield BROKEN, f"{package} {version or 'is not installed'}: {text}", f"{install} {package}"


@check("namesakes")
def _namesakes(cfg: Any) -> Iterator[Row]:
    """Packages that own the same import names."""
    for original, theirs in _ORIGINALS.items():
        if _version(original) and _version(theirs):
            remedy = f"pip uninstall -y {original} {theirs}; pip install --no-deps {theirs}=={_version(theirs)}"
            yield BROKEN, f"{original} beside {theirs}: both are the module {_NEEDED[theirs]}", remedy
    kinds = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
    found = [kind for kind in kinds if _version(kind)]
    if len(found) > 1:
        remedy = f"pip uninstall -y {' '.join(found)}; pip install opencv-python-headless"
        yield NOTE, f"{' beside '.join(found)}: all are the module cv2, and the last one installed wins", remedy


@check("mmcv.ops")
def _ops(cfg: Any) -> Iterator[Row]:
    try:
        importlib.import_module("mmcv.ops")
        yield OK, "there", ""
    except ImportError:
        yield NOTE, "not compiled: nothing of this project needs them; some heads of MMSegmentation do", ""


@check(
    "torchvision",
    "pip uninstall torchvision (ImageNet weights and smp alone need it), or install the build of your torch's kind",
)
def _torchvision(cfg: Any) -> Iterator[Row]:
    if _version("torchvision") is None:
        yield NOTE, "not installed: torchvision:// weights are not at hand", 'pip install -e ".[imagenet]"'
    else:  # a build for CUDA beside a torch without: operator torchvision::nms does not exist
        yield OK, importlib.import_module("torchvision").__version__, ""


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
