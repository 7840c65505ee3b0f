"""Where the weights lie that a config names by an address."""

import torch
from mmengine.runner.checkpoint import get_external_models, get_torchvision_models

from medseg_kd.errors import UserError, did_you_mean, first_line


def address_of(name: str) -> str:
    """Resolve ``torchvision://`` and ``open-mmlab://`` names to the address of the weights."""
    scheme, _, model = name.partition("://")
    if scheme in ("http", "https"):
        return name
    if scheme in ("torchvision", "modelzoo"):
        try:
            known = get_torchvision_models()
        except (ImportError, RuntimeError) as error:
            raise UserError(
                f"checkpoint {name}: torchvision cannot be imported ({first_line(error)}). Install the torchvision "
                f"that fits PyTorch {torch.__version__}, or download the weights and name the file"
            ) from error
    elif scheme in ("open-mmlab", "openmmlab"):
        known = get_external_models()
    else:
        raise UserError(
            f"checkpoint {name}: the scheme {scheme}:// is not supported. Use a file, http(s)://, torchvision:// or "
            "open-mmlab://"
        )
    if model not in known:
        raise UserError(f"checkpoint {name}: no such model{did_you_mean(model, known)}")
    return known[model]
