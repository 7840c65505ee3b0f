"""ImageNet weights of a ResNet: torchvision's, MMSegmentation's (V1c) and MMPretrain's."""

import torch
from torch import Tensor

_CLASSIFIERS = ("fc.", "head.fc.")


def convert(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of MMSegmentation's ``ResNet`` or ``ResNetV1c`` from those of a classification network; shapes are kept.

    The names below the network are the same everywhere (``conv1`` and ``bn1``, or ``stem.0`` to ``stem.7`` in V1c;
    ``layer1`` to ``layer4``). The classifier is left out, MMPretrain's prefix ``backbone.`` too. The counters
    ``num_batches_tracked``, which files older than PyTorch 0.4.1 lack, are set to 0.
    """
    weights = {key.removeprefix("backbone."): value for key, value in state.items() if not key.startswith(_CLASSIFIERS)}
    for key in [key for key in weights if key.endswith(".running_var")]:
        weights.setdefault(key.replace("running_var", "num_batches_tracked"), torch.tensor(0))
    return weights
