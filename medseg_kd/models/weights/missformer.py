"""MISSFormer's weights from the authors' code (repository ZhifangDeng/MISSFormer, ``token_mlp_mode="mix_skip"``)."""

import re

from torch import Tensor

from medseg_kd.models.weights.stem import fit_input_channels

# No output of the authors' network depends on these; see missformer_unused.py.
_UNUSED = re.compile(r"^decoder_3\.(concat_linear|layer_former_[12])\.|\.(mlp|mixffn[1-4])\.norm[23]\.")
_BRIDGE_REDUCTION = re.compile(r"^bridge\.\d\.reduce\.\d\.")
_BRIDGE_WIDTH = 64


def _renamings() -> dict[str, str]:
    """Parts of the authors' names and ours, to be replaced in this order."""
    names: dict[str, str] = {}
    for n in range(1, 5):
        ours = n - 1
        names |= {
            f"backbone.patch_embed{n}.proj.": f"encoder.{ours}.patch_embed.",
            f"backbone.patch_embed{n}.norm.": f"encoder.{ours}.patch_norm.",
            f"backbone.block{n}.": f"encoder.{ours}.blocks.",
            f"backbone.norm{n}.": f"encoder.{ours}.norm.",
            f"bridge.bridge_layer{n}.attn.scale_reduce.sr": f"bridge.{ours}.reduce.",
            f"bridge.bridge_layer{n}.attn.scale_reduce.norm.": f"bridge.{ours}.norm_reduced.",
            f"bridge.bridge_layer{n}.attn.": f"bridge.{ours}.attend.",
            f"bridge.bridge_layer{n}.": f"bridge.{ours}.",
            f".mixffn{n}.norm1.": f".mlps.{ours}.norm.",
            f".mixffn{n}.": f".mlps.{ours}.",
        }
    for n in range(3):
        ours = 2 - n
        names |= {
            f"decoder_{n + 1}.layer_up.expand.": f"decoder.{ours}.expand.linear.",
            f"decoder_{n + 1}.layer_up.norm.": f"decoder.{ours}.expand.norm.",
            f"decoder_{n}.concat_linear.": f"decoder.{ours}.fuse.",
            f"decoder_{n}.layer_former_1.": f"decoder.{ours}.blocks.0.",
            f"decoder_{n}.layer_former_2.": f"decoder.{ours}.blocks.1.",
        }
    return names | {
        "decoder_0.layer_up.expand.": "head.expand.linear.",
        "decoder_0.layer_up.norm.": "head.expand.norm.",
        "decoder_0.last_layer.": "head.classify.",
        ".mlp.norm1.": ".mlp.norm.",
        ".dwconv.dwconv.": ".dwconv.",
        ".attn.sr.": ".attn.reduce.0.",
        ".attn.norm.": ".attn.reduce.1.",
        **{f".attn.{layer}.": f".attn.attend.{layer}." for layer in ("q", "kv", "proj")},
    }


def convert(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of our ``MISSFormer`` from the authors' ``state_dict``; names that are not theirs stay as they are.

    - Weights that no output depends on go to ``unused``, under their own names.
    - The stem saw grey three times: its kernel is summed over its input channels.
    - The reducing convolutions of the bridge give k tokens of 64 channels a position. There the channels of token j are
      outputs j, k + j, 2k + j, ...; here they lie side by side.
    - The 1x1 convolution that classifies is a linear layer.
    """
    renamings = _renamings()
    converted = {}
    for name, value in state.items():
        if _UNUSED.search(name):
            converted[f"unused.{name.replace('.', '__')}"] = value
            continue
        for theirs, ours in renamings.items():
            name = name.replace(theirs, ours)
        if name == "encoder.0.patch_embed.weight":
            value = fit_input_channels(value, 1)
        elif _BRIDGE_REDUCTION.match(name):
            value = value.unflatten(0, (_BRIDGE_WIDTH, -1)).transpose(0, 1).flatten(0, 1)
        elif name == "head.classify.weight":
            value = value.flatten(1)
        converted[name] = value
    return converted
