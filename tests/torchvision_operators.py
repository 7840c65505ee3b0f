"""timm imports torchvision, whose usual wheel does not import beside a PyTorch for CPUs: its operators are missing.

The networks use none of them, so that their names alone let the tests run on every build.
"""

from importlib import import_module
from typing import Any

import torch

try:
    import torchvision  # noqa: F401
except ModuleNotFoundError:
    pass
except RuntimeError:
    LIBRARY = torch.library.Library("torchvision", "FRAGMENT")  # the names live as long as it does
    for _name in ("nms", "qnms"):
        LIBRARY.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def smp_and_timm() -> tuple[Any, Any]:
    """segmentation_models_pytorch and timm, imported when there are the names."""
    return import_module("segmentation_models_pytorch"), import_module("timm")
