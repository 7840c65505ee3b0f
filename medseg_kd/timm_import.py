"""timm imports torchvision, whose wheel for CUDA fails beside a PyTorch for CPUs, and MMSegmentation imports timm.

What PyTorch then raises (operator torchvision::nms does not exist) MMSegmentation does not take for a package that is
not there: everything would end with it. As an ImportError it concerns only who needs timm.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any


class TorchvisionFirst:
    """A finder that finds nothing; asked for timm, it tries torchvision."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        """Raise an ImportError where timm would fail at importing torchvision."""
        if name == "timm" and find_spec("torchvision"):
            try:
                import_module("torchvision")
            except RuntimeError as error:
                version = import_module("torch").__version__
                raise ImportError(
                    f"torchvision does not fit PyTorch {version} ({error}), and timm needs it. Take both from one "
                    "place, as https://pytorch.org/get-started/locally says; tools/doctor.py tells more"
                ) from error


sys.meta_path.insert(0, TorchvisionFirst)
