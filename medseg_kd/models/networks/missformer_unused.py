"""Layers of the published MISSFormer that no output depends on."""

from collections.abc import Sequence

import torch
from torch import nn


def unused_parameters(channels: Sequence[int], depths: Sequence[int], bridge_layers: int) -> nn.ParameterDict:
    """What the authors' network holds and never uses, frozen.

    Each of its feed-forwards has two norms that it does not call, and the deepest step of the decoder, which has no
    skip, has the linear layer and the transformer blocks of one that has: 7.01 of the 42.46 M parameters that are
    published. They are kept so that the count and the checkpoints are the published ones.

    Args:
        channels: Channels of the stages.
        depths: Blocks of the encoder's stages.
        bridge_layers: Layers of the bridge.

    Returns:
        The authors' names, with ``__`` for the dot, to tensors of the authors' shapes.
    """
    deepest, width = len(channels) - 1, channels[-1]
    shapes: dict[str, tuple[int, ...]] = {}
    for stage, (c, depth) in enumerate(zip(channels, depths, strict=True)):
        owners = [f"backbone.block{stage + 1}.{block}.mlp" for block in range(depth)]
        owners += [f"bridge.bridge_layer{layer + 1}.mixffn{stage + 1}" for layer in range(bridge_layers)]
        owners += [f"decoder_{stage}.layer_former_{block}.mlp" for block in (1, 2)]
        for owner in owners:
            shapes |= _layer(f"{owner}.norm2", 4 * c) | _layer(f"{owner}.norm3", 4 * c)
    shapes |= _layer(f"decoder_{deepest}.concat_linear", width, 2 * width)
    for block in (1, 2):
        owner = f"decoder_{deepest}.layer_former_{block}"
        shapes |= _layer(f"{owner}.norm1", width) | _layer(f"{owner}.norm2", width)
        shapes |= _layer(f"{owner}.attn.q", width, width) | _layer(f"{owner}.attn.kv", 2 * width, width)
        shapes |= _layer(f"{owner}.attn.proj", width, width)
        shapes |= _layer(f"{owner}.mlp.fc1", 4 * width, width) | _layer(f"{owner}.mlp.fc2", width, 4 * width)
        shapes |= _layer(f"{owner}.mlp.dwconv.dwconv", 4 * width, 1, 3, 3) | _layer(f"{owner}.mlp.norm1", 4 * width)
    zeros = {name.replace(".", "__"): torch.zeros(shape) for name, shape in shapes.items()}
    return nn.ParameterDict(zeros).requires_grad_(False)


def _layer(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    """Weight and bias of a layer."""
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
