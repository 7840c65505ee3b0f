"""FCN, U-Net and Attention U-Net of 605671435/mmseg-kd; its gates are those of ozan-oktay/Attention-Gated-Networks."""

import re

from torch import Tensor

from medseg_kd.models.weights.renaming import join, rename
from medseg_kd.models.weights.stem import fit_input_channels

_RULES = {
    r"^decode_head\.": "head.",
    r"^(decoder\.\d+)\.upsample\.(interp_upsample\.1\.)?": r"\1.reduce.",
    r"^(decoder\.\d+)\.conv_block\.convs\.": r"\1.fuse.",
    r"^(decoder\.\d+)\.MultiAttentionBlock2D\.": r"\1.gate.",
    r"\.gate\.(gate_block_\d)\.W\.0\.": r".gate.\1.W.",
    r"\.gate\.(gate_block_\d)\.W\.1\.": r".gate.\1.norm.",
    r"\.gate\.combine_gates\.0\.": ".gate.combine.conv.",
    r"\.gate\.combine_gates\.1\.": ".gate.combine.bn.",
}
_STEMS = ("backbone.stem.0.weight", "backbone.conv1.weight")
# Convolutions of the decoder that a normalisation follows: theirs have a bias, ours have none.
_NORMALISED = (r"^(decoder\..+)\.conv\.bias$", r"\1.bn.running_mean"), (r"\.gate\.W\.bias$", ".gate.norm.running_mean")


def convert(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of our ``FCN``, ``UNet`` or ``AttentionUNet``.

    The stem becomes one-channel. The decoder's steps are counted from the deep end instead of the shallow one. The
    layers of an attention block's two gates are joined. A bias before a batch normalisation goes into its running mean,
    which gives the same output; instance normalisation has no running mean and takes any bias out again.

    Args:
        state: Name to tensor: ``backbone.*``, ``decode_head.*``, and where the network has them ``neck.*`` and
            ``auxiliary_head.*``.
    """
    levels = {int(match[1]) for key in state if (match := re.match(r"neck\.decoder\.(\d+)\.", key))}
    from_deep = {rf"^neck\.decoder\.{level}\.": f"decoder.{len(levels) - 1 - level}." for level in levels}
    weights = rename(state, from_deep | _RULES)
    join(weights, (".gate.gate_block_1.", ".gate.gate_block_2."), ".gate.")
    for pattern, mean in _NORMALISED:
        for key in [key for key in weights if re.search(pattern, key)]:
            bias, statistics = weights.pop(key), re.sub(pattern, mean, key)
            if statistics in weights:
                weights[statistics] = weights[statistics] - bias
    return {key: fit_input_channels(value, 1) if key in _STEMS else value for key, value in weights.items()}
