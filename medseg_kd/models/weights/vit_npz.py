"""Google's weights of the hybrid vision transformer, such as ``R50+ViT-B_16.npz``: arrays under the names of JAX."""

import os
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from medseg_kd.errors import UserError
from medseg_kd.models.weights.foreign import read_npz
from medseg_kd.models.weights.renaming import renamed
from medseg_kd.models.weights.transunet import tokens_to_grid

_POSITIONS = "vit.position_embedding.grid"
_STEM = "resnet.root.conv.weight"
# Our names to theirs.
_RULES = {
    r"^resnet\.root\.(conv|gn)\.": r"\1_root/",
    r"^resnet\.(block\d+)\.(unit\d+)\.(\w+)\.": r"\1/\2/\3/",
    r"^vit\.patch_embedding\.": "embedding/",
    r"^vit\.position_embedding\.grid$": "Transformer/posembed_input/pos_embedding",
    r"^vit\.norm\.": "Transformer/encoder_norm/",
    r"^vit\.blocks\.(\d+)\.": r"Transformer/encoderblock_\1/",
    r"/attention_norm\.": "/LayerNorm_0/",
    r"/mlp_norm\.": "/LayerNorm_2/",
    r"/mlp\.fc1\.": "/MlpBlock_3/Dense_0/",
    r"/mlp\.fc2\.": "/MlpBlock_3/Dense_1/",
    r"/attention\.(qkv|out)\.": r"/MultiHeadDotProductAttention_1/\1/",
}
# The classifier and its token: a segmentation network has no place for them.
_NOT_OURS = re.compile(r"^(head/|pre_logits/|cls$)")


def read_encoder(path: str | os.PathLike, encoder: Mapping[str, Tensor], num_heads: int) -> dict[str, Tensor]:
    """Read the weights of an encoder.

    Args:
        path: The ``.npz`` file. No code in it is run.
        encoder: The weights of TransUNet's encoder, by our names (``resnet.*``, ``vit.*``); their shapes say what is
            expected.
        num_heads: Heads of each attention.

    Returns:
        The weights of the file by the names of ``encoder``. The position embedding has the grid of the file, the stem's
        filters the three channels of RGB images.

    Raises:
        UserError: The file is not there or damaged, a weight is missing, left over or of another shape; all are listed.
    """
    arrays = {key: array for key, array in read_npz(path).items() if not _NOT_OURS.match(key)}
    weights, problems = {}, []
    for name, own in encoder.items():
        shape = torch.Size((own.shape[0], 3, *own.shape[2:])) if name == _STEM else own.shape
        parts = []
        for key, wanted in _sources(name, shape, num_heads):
            array = arrays.pop(key, None)
            if array is None:
                problems.append(f"{key}: missing")
                continue
            if name == _POSITIONS:
                part, expected = tokens_to_grid(array), f"(1, rows * rows (+ 1), {shape[1]})"
                fits = part.shape[:2] == shape[:2]
            else:
                part, expected = array, str(wanted)
                # Group norms hold (1, 1, 1, C).
                fits = array.shape in (wanted, (1, 1, 1, *wanted))
            if fits and array.is_floating_point():
                parts.append(part.float() if name == _POSITIONS else _ours(part.float(), shape))
            else:
                dtype = str(array.dtype).removeprefix("torch.")
                problems.append(f"{key}: {dtype} {tuple(array.shape)}, expected float {expected}")
        if parts:
            weights[name] = torch.cat(parts)
    problems += [f"{key}: not in the network" for key in arrays]
    if problems:
        raise UserError(
            f"{os.fspath(path)} does not fit the encoder: it belongs to another network, or to other sizes of this one."
            + "".join(f"\n  {problem}" for problem in problems)
        )
    return weights


def _sources(name: str, shape: torch.Size, num_heads: int) -> list[tuple[str, tuple[int, ...]]]:
    """The arrays that make up a weight, with the shape of each: outputs last, heads on an axis of their own."""
    key = re.sub(r"weight$", "scale" if len(shape) == 1 else "kernel", renamed(name, _RULES))
    inputs, outputs = (*shape[2:], *shape[1:2]), shape[0]
    if "/qkv/" in key:
        heads = (num_heads, outputs // 3 // num_heads)
        return [(key.replace("/qkv/", f"/{part}/"), (*inputs, *heads)) for part in ("query", "key", "value")]
    if key.endswith("/out/kernel"):
        inputs = (num_heads, shape[1] // num_heads)
    return [(key, (*inputs, outputs))]


def _ours(array: Tensor, shape: torch.Size) -> Tensor:
    """An array in PyTorch's order: outputs first."""
    if len(shape) == 4:
        return array.permute(3, 2, 0, 1)
    return array.flatten() if len(shape) == 1 else array.reshape(shape[1], -1).t()
