"""Swin-UNETR of MONAI (``monai.networks.nets.SwinUNETR`` with ``spatial_dims=2``)."""

import re

from torch import Tensor

from medseg_kd.errors import UserError
from medseg_kd.models.weights.renaming import rename

_ENCODER = re.compile(r"(encoder\.)?(patch_embed|layers[1-4])\.")
_RULES = {r"^(swinViT\..+\.mlp)\.fc([12])\.": r"\1.linear\2."}


def convert(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of :class:`~medseg_kd.models.SwinUNETR`, whose names are MONAI's.

    The layers of an MLP may also be called ``fc1`` and ``fc2``, as in Swin's own code. Weights of a three-dimensional
    network keep their shapes, so that strict loading names those that do not fit.

    Raises:
        UserError: The weights are those of the encoder alone, as self-supervised training saves them.
    """
    alone = next((key for key in state if _ENCODER.match(key)), None)
    if alone and not any(key.startswith("swinViT.") for key in state):
        raise UserError(
            f"these are weights of Swin-UNETR's encoder alone ({alone}, ...), as self-supervised training saves them "
            "(model_swinvit.pt). Expected those of a whole network: swinViT.*, encoder1.*, ..., decoder1.*, out.*"
        )
    return rename(state, _RULES)
