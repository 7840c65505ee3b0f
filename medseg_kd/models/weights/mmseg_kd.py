"""FCN and U-Net of 605671435/mmseg-kd."""

import re

from torch import Tensor

from medseg_kd.models.weights.stem import fit_input_channels

_STEMS = ("backbone.stem.0.weight", "backbone.conv1.weight")
_STEP = re.compile(r"neck\.decoder\.(\d+)\.(.+)")
_LAYERS = {"upsample.interp_upsample.1.": "reduce.", "upsample.": "reduce.", "conv_block.convs.": "fuse."}


def convert(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of our ``FCN`` or ``UNet``.

    The stem becomes one-channel. U-Net's neck, whose decoder steps are counted from the shallow end and whose
    convolutions have a bias before the normalisation, becomes our decoder, which has none.

    Args:
        state: Name to tensor: ``backbone.*``, ``decode_head.*``, and where the network has them ``neck.*`` and
            ``auxiliary_head.*``.
    """
    levels = decoder_levels(state)
    converted: dict[str, Tensor] = {}
    for key, value in state.items():
        if match := _STEP.fullmatch(key):
            key = f"decoder.{levels - 1 - int(match[1])}.{_renamed(match[2])}"
        elif key.startswith("decode_head."):
            key = "head." + key.removeprefix("decode_head.")
        converted[key] = fit_input_channels(value, 1) if key in _STEMS else value
    for key in [key for key in converted if key.startswith("decoder.") and key.endswith(".conv.bias")]:
        fold_bias(converted, key, key.removesuffix("conv.bias") + "bn")
    return converted


def decoder_levels(state: dict[str, Tensor]) -> int:
    """Number of decoder steps of a U-Net; 0 for an FCN."""
    return len({match[1] for key in state if (match := _STEP.fullmatch(key))})


def fold_bias(state: dict[str, Tensor], bias: str, norm: str) -> None:
    """Take the bias of a convolution that a normalisation follows out of ``state``.

    It goes into the running mean of batch normalisation, which gives the same output. Instance normalisation has no
    running mean and takes any bias out again.

    Args:
        state: Name to tensor; changed in place.
        bias: Name of the bias, which may be absent.
        norm: Name of the normalisation.
    """
    value, mean = state.pop(bias, None), f"{norm}.running_mean"
    if value is not None and mean in state:
        state[mean] = state[mean] - value


def _renamed(layer: str) -> str:
    """A name inside a decoder step, in ours."""
    for theirs, ours in _LAYERS.items():
        if layer.startswith(theirs):
            return ours + layer.removeprefix(theirs)
    return layer
