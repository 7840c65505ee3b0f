"""Weights of TransUNet's own code (Beckschen/TransUNet, R50-ViT-B_16)."""

import math

from torch import Tensor

from medseg_kd.models.weights.renaming import join, rename

_RULES = {
    r"^transformer\.embeddings\.hybrid_model\.root\.": "resnet.root.",
    r"^transformer\.embeddings\.hybrid_model\.body\.": "resnet.",
    r"^(resnet\.block.*\.)downsample\.": r"\1conv_proj.",
    r"^transformer\.embeddings\.patch_embeddings\.": "vit.patch_embedding.",
    r"^transformer\.embeddings\.position_embeddings$": "vit.position_embedding.grid",
    r"^transformer\.encoder\.encoder_norm\.": "vit.norm.",
    r"^transformer\.encoder\.layer\.": "vit.blocks.",
    r"^(vit\.blocks\.\d+)\.attn\.": r"\1.attention.",
    r"^(vit\.blocks\.\d+)\.ffn(_norm)?\.": r"\1.mlp\2.",
    r"^segmentation_head\.0\.": "head.",
}
_GRID = "vit.position_embedding.grid"


def convert(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of :class:`~medseg_kd.models.TransUNet` from those of the authors' ``VisionTransformer``.

    Query, key and value become one layer; the position embedding becomes a map, (1, T, C) to (1, C, h, w) with
    h = w, the only grid that the authors' code has.
    """
    weights = rename(state, _RULES)
    join(weights, (".attention.query.", ".attention.key.", ".attention.value."), ".attention.qkv.")
    if _GRID in weights:
        weights[_GRID] = tokens_to_grid(weights[_GRID])
    return weights


def tokens_to_grid(tokens: Tensor) -> Tensor:
    """A position embedding (1, T, C) as a map (1, C, h, w), h = w, without that of a class token, which comes first.

    As it is if neither T nor T - 1 is a square.
    """
    count = tokens.shape[1] if tokens.ndim == 3 else 0
    for others in (0, 1):
        side = math.isqrt(max(count - others, 0))
        if side and side**2 == count - others:
            return tokens[:, others:].transpose(1, 2).unflatten(2, (side, side)).contiguous()
    return tokens
