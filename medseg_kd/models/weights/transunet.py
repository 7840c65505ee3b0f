"""Weights of TransUNet's own code (Beckschen/TransUNet, R50-ViT-B_16)."""

import math
import re

import torch
from torch import Tensor

_RENAMED = (
    (r"^transformer\.embeddings\.hybrid_model\.(root\.)", r"resnet.\1"),
    (r"^transformer\.embeddings\.hybrid_model\.body\.", "resnet."),
    (r"^(resnet\.block.*\.)downsample\.", r"\1conv_proj."),
    (r"^transformer\.embeddings\.patch_embeddings\.", "vit.patch_embedding."),
    (r"^transformer\.embeddings\.position_embeddings$", "vit.position_embedding.grid"),
    (r"^transformer\.encoder\.encoder_norm\.", "vit.norm."),
    (r"^transformer\.encoder\.layer\.", "vit.blocks."),
    (r"^(vit\.blocks\.\d+)\.attn\.", r"\1.attention."),
    (r"^(vit\.blocks\.\d+)\.ffn\.", r"\1.mlp."),
    (r"^(vit\.blocks\.\d+)\.ffn_norm\.", r"\1.mlp_norm."),
    (r"^segmentation_head\.0\.", "head."),
)
_GRID = "vit.position_embedding.grid"


def convert(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names and tensors of :class:`~medseg_kd.models.TransUNet` from those of the authors' ``VisionTransformer``.

    Query, key and value become one layer; the position embedding becomes a map, (1, T, C) to (1, C, h, w) with
    h = w, the only grid that the authors' code has. Names that it does not know stay as they are.
    """
    weights = {}
    for name, value in state.items():
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        weights[name] = value
    for name in [name for name in weights if ".attention.query." in name]:
        parts = [name.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
        if all(part in weights for part in parts):
            weights[name.replace(".query.", ".qkv.")] = torch.cat([weights.pop(part) for part in parts])
    if _GRID in weights:
        weights[_GRID] = tokens_to_grid(weights[_GRID])
    return weights


def tokens_to_grid(tokens: Tensor) -> Tensor:
    """A position embedding (1, T, C) as a map (1, C, h, w) with h = w; as it is if T is no square."""
    side = math.isqrt(tokens.shape[1]) if tokens.ndim == 3 else 0
    if not side or side**2 != tokens.shape[1]:
        return tokens
    return tokens.transpose(1, 2).unflatten(2, (side, side)).contiguous()
