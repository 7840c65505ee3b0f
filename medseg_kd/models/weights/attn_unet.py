"""Attention U-Net of 605671435/mmseg-kd, with the gates of ozan-oktay/Attention-Gated-Networks."""

import re

import torch
from torch import Tensor

from medseg_kd.models.weights import mmseg_kd

_GATE = re.compile(r"neck\.decoder\.(\d+)\.MultiAttentionBlock2D\.(.+)")
_JOINED = re.compile(r"gate_block_(\d+)\.(.+)")
_LAYERS = {
    "W.0.": "W.",
    "W.1.": "norm.",
    "combine_gates.0.": "combine.conv.",
    "combine_gates.1.": "combine.bn.",
}


def convert(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of our ``AttentionUNet``.

    Args:
        state: Name to tensor: the U-Net as :mod:`mmseg_kd` takes it, and a ``MultiAttentionBlock2D`` at each level of
            ``neck.decoder``.
    """
    gates: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        if match := _GATE.fullmatch(key):
            gates.setdefault(match[1], {})[match[2]] = value
    converted = mmseg_kd.convert({key: value for key, value in state.items() if not _GATE.fullmatch(key)})
    levels = mmseg_kd.decoder_levels(state)
    for level, block in gates.items():
        prefix = f"decoder.{levels - 1 - int(level)}.gate."
        converted.update({prefix + key: value for key, value in convert_gate(block).items()})
    return converted


def convert_gate(block: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of our ``MultiAttentionGate`` from those of the authors' ``MultiAttentionBlock``.

    The layers of the gates are joined along the output channels. The biases before a batch normalisation go into its
    running mean.

    Args:
        block: Name to tensor: ``gate_block_1.*``, ``gate_block_2.*``, ``combine_gates.*``.
    """
    parts: dict[str, dict[int, Tensor]] = {}
    converted: dict[str, Tensor] = {}
    for key, value in block.items():
        if match := _JOINED.fullmatch(key):
            parts.setdefault(_renamed(match[2]), {})[int(match[1])] = value
        else:
            converted[_renamed(key)] = value
    for key, gates in parts.items():
        ordered = [gates[index] for index in sorted(gates)]
        converted[key] = torch.cat(ordered) if ordered[0].ndim else ordered[0]
    for bias, norm in (("W.bias", "norm"), ("combine.conv.bias", "combine.bn")):
        mmseg_kd.fold_bias(converted, bias, norm)
    return converted


def _renamed(key: str) -> str:
    """A name inside the authors' block, in ours."""
    for theirs, ours in _LAYERS.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return key
