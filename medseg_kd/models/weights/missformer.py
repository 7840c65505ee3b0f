"""MISSFormer's weights from the authors' code (repository ZhifangDeng/MISSFormer, ``token_mlp_mode="mix_skip"``)."""

import re
from collections.abc import Sequence

from torch import Tensor

from medseg_kd.models.weights.renaming import rename
from medseg_kd.models.weights.stem import fit_input_channels

# Theirs counts from 1 in the encoder and the bridge, and the decoder's steps from the shallow end.
_RULES = {
    **{rf"^backbone\.(patch_embed|block|norm){n}\.": rf"encoder.{n - 1}.\1." for n in range(1, 5)},
    **{rf"^bridge\.bridge_layer{n}\.": f"bridge.{n - 1}." for n in range(1, 5)},
    **{rf"\.mixffn{n}\.": f".mlps.{n - 1}." for n in range(1, 5)},
    **{rf"^decoder_{n}\.layer_up\.": f"decoder.{3 - n}.expand." for n in range(1, 4)},
    r"^decoder_0\.layer_up\.": "head.expand.",
    r"^decoder_0\.last_layer\.": "head.classify.",
    **{rf"^decoder_{n}\.": f"decoder.{2 - n}." for n in range(3)},
    r"\.patch_embed\.proj\.": ".patch_embed.",
    r"\.patch_embed\.norm\.": ".patch_norm.",
    r"^(encoder\.\d)\.block\.": r"\1.blocks.",
    r"\.layer_former_1\.": ".blocks.0.",
    r"\.layer_former_2\.": ".blocks.1.",
    r"\.concat_linear\.": ".fuse.",
    r"\.expand\.expand\.": ".expand.linear.",
    r"\.(mlp|mlps\.\d)\.norm1\.": r".\1.norm.",
    r"\.dwconv\.dwconv\.": ".dwconv.",
    r"^(bridge\.\d)\.attn\.scale_reduce\.sr": r"\1.reduce.",
    r"^(bridge\.\d)\.attn\.scale_reduce\.norm\.": r"\1.norm_reduced.",
    r"^(bridge\.\d)\.attn\.": r"\1.attend.",
    r"\.attn\.sr\.": ".attn.reduce.0.",
    r"\.attn\.norm\.": ".attn.reduce.1.",
    r"\.attn\.(q|kv|proj)\.": r".attn.attend.\1.",
}
_BRIDGE_REDUCTION = re.compile(r"^bridge\.\d\.reduce\.\d\.")
_BRIDGE_WIDTH = 64
_BLOCK = ("norm1", "attn.q", "attn.kv", "attn.proj", "norm2", "mlp.fc1", "mlp.dwconv.dwconv", "mlp.norm1", "mlp.fc2")


def convert(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of our ``MISSFormer`` from the authors' ``state_dict``; names that are not theirs stay as they are.

    - Weights that no output depends on are left out (:func:`unused_weights`).
    - The stem saw grey three times: its kernel is summed over its input channels.
    - The reducing convolutions of the bridge give k tokens of 64 channels a position. There the channels of token j are
      outputs j, k + j, 2k + j, ...; here they lie side by side.
    - The 1x1 convolution that classifies is a linear layer.
    """
    weights = rename(state, _RULES, unused=unused_weights((2, 2, 2, 2), bridge_layers=4))
    for name, value in weights.items():
        if name == "encoder.0.patch_embed.weight":
            weights[name] = fit_input_channels(value, 1)
        elif _BRIDGE_REDUCTION.match(name):
            weights[name] = value.unflatten(0, (_BRIDGE_WIDTH, -1)).transpose(0, 1).flatten(0, 1)
        elif name == "head.classify.weight":
            weights[name] = value.flatten(1)
    return weights


def unused_weights(depths: Sequence[int], bridge_layers: int) -> set[str]:
    """What the authors' network holds and never uses, by their names: 7.01 of the 42.46 M parameters.

    Each feed-forward has two norms that it does not call, and the deepest step of the decoder, which has no skip, has
    the linear layer and the transformer blocks of one that has.

    Args:
        depths: Blocks of the encoder's stages.
        bridge_layers: Layers of the bridge.
    """
    deepest = f"decoder_{len(depths) - 1}"
    layers = {f"{deepest}.concat_linear"}
    layers |= {f"{deepest}.layer_former_{block}.{layer}" for block in (1, 2) for layer in _BLOCK}
    for stage, depth in enumerate(depths):
        owners = [f"backbone.block{stage + 1}.{block}.mlp" for block in range(depth)]
        owners += [f"bridge.bridge_layer{layer + 1}.mixffn{stage + 1}" for layer in range(bridge_layers)]
        owners += [f"decoder_{stage}.layer_former_{block}.mlp" for block in (1, 2)]
        layers |= {f"{owner}.{norm}" for owner in owners for norm in ("norm2", "norm3")}
    return {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
