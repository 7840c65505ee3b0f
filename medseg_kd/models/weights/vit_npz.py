"""Google's weights of the hybrid vision transformer, such as ``R50+ViT-B_16.npz``: arrays under the names of JAX."""

import math
import os
import re
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from medseg_kd.errors import UserError
from medseg_kd.models.weights.transunet import tokens_to_grid

_POSITIONS = "vit.position_embedding.grid"
_STEM = "resnet.root.conv.weight"
_RENAMED = (
    (r"^resnet\.root\.(conv|gn)\.", r"\1_root/"),
    (r"^resnet\.(block\d+)\.(unit\d+)\.(\w+)\.", r"\1/\2/\3/"),
    (r"^vit\.patch_embedding\.", "embedding/"),
    (r"^vit\.position_embedding\.grid$", "Transformer/posembed_input/pos_embedding"),
    (r"^vit\.norm\.", "Transformer/encoder_norm/"),
    (r"^vit\.blocks\.(\d+)\.", r"Transformer/encoderblock_\1/"),
    (r"/attention_norm\.", "/LayerNorm_0/"),
    (r"/mlp_norm\.", "/LayerNorm_2/"),
    (r"/mlp\.fc1\.", "/MlpBlock_3/Dense_0/"),
    (r"/mlp\.fc2\.", "/MlpBlock_3/Dense_1/"),
    (r"/attention\.(qkv|out)\.", r"/MultiHeadDotProductAttention_1/\1/"),
)
# The classifier and its token: a segmentation network has no place for them.
_NOT_OURS = re.compile(r"^(head/|pre_logits/|cls$)")
_DAMAGED = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


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
    arrays = _read(path)
    weights, problems = {}, []
    for name, wanted in encoder.items():
        parts = []
        shape = torch.Size((wanted.shape[0], 3, *wanted.shape[2:])) if name == _STEM else wanted.shape
        for key, shapes in _sources(name, shape, num_heads):
            array = arrays.pop(key, None)
            if array is None:
                problems.append(f"{key}: missing")
            elif array.dtype.kind != "f" or not (array.shape in shapes or name == _POSITIONS):
                problems.append(f"{key}: {array.dtype} {array.shape}, expected float {shapes[0]}")
            else:
                parts.append(torch.from_numpy(array).float())
        if name == _POSITIONS and parts:
            weights[name] = tokens_to_grid(_without_class_token(parts[0]))
            if weights[name].shape[:2] != wanted.shape[:2]:
                problems.append(f"{key}: {tuple(parts[0].shape)}, expected (1, rows * rows (+ 1), {wanted.shape[1]})")
        elif parts:
            weights[name] = torch.cat([_ours(part, shape) for part in parts])
    problems += [f"{key}: not in the network" for key in arrays]
    if problems:
        raise UserError(
            f"{os.fspath(path)} does not fit the encoder: it belongs to another network, or to other sizes of this one."
            + "".join(f"\n  {problem}" for problem in problems)
        )
    return weights


def _read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of a file that an encoder may use."""
    if not os.path.isfile(path):
        raise UserError(f"checkpoint not found: {os.fspath(path)}")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files if not _NOT_OURS.match(key)}
    except (*_DAMAGED, TypeError, AttributeError) as error:
        raise UserError(
            f"{os.fspath(path)} cannot be read as an .npz of plain arrays ({error}): download or copy it again"
        ) from error


def _sources(name: str, shape: torch.Size, num_heads: int) -> list[tuple[str, list[tuple[int, ...]]]]:
    """The arrays that make up a weight, with the shapes that each may have."""
    key = name
    for pattern, replacement in _RENAMED:
        key = re.sub(pattern, replacement, key)
    key = re.sub(r"weight$", "scale" if len(shape) == 1 else "kernel", key)
    if "/qkv/" in key:
        heads = (num_heads, shape[0] // 3 // num_heads)
        part = heads if len(shape) == 1 else (shape[1], *heads)
        return [(key.replace("/qkv/", f"/{which}/"), [part]) for which in ("query", "key", "value")]
    if key.endswith("/out/kernel"):
        return [(key, [(num_heads, shape[1] // num_heads, shape[0])])]
    if len(shape) == 4:
        rows, columns = shape[2:]
        return [(key, [(rows, columns, shape[1], shape[0])])]
    if len(shape) == 2:
        return [(key, [(shape[1], shape[0])])]
    # Group norms hold (1, 1, 1, C).
    return [(key, [(shape[0],), (1, 1, 1, shape[0])])]


def _ours(array: Tensor, shape: torch.Size) -> Tensor:
    """An array in PyTorch's order: outputs first."""
    if len(shape) == 4:
        return array.permute(3, 2, 0, 1)
    return array.flatten() if len(shape) == 1 else array.reshape(shape[1], -1).t()


def _without_class_token(tokens: Tensor) -> Tensor:
    """Positions (1, T, C) without that of the class token, which comes first where T is one more than a square."""
    if tokens.ndim != 3 or tokens.shape[1] < 2:
        return tokens
    others = tokens.shape[1] - 1
    return tokens[:, 1:] if math.isqrt(others) ** 2 == others else tokens
