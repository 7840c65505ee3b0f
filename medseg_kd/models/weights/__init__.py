"""Checkpoints of other code, turned into ours: one module for each source, with one function ``convert``.

``convert(state)`` maps the other code's names and tensors to those of our network. What it does not know it leaves as
it is, so that strict loading refuses it by name.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from medseg_kd.models.weights import mednext, missformer, mmseg_kd, resnet, swin_unetr, transunet


class Source(NamedTuple):
    """Code that checkpoints come from."""

    convert: Callable[[dict[str, Tensor]], dict[str, Tensor]]
    """Weights of our network, or encoder, from a ``state_dict`` of theirs."""
    configs: tuple[str, ...] = ()
    """The configs whose networks take the result; none: it is an encoder, not a network."""
    is_whole: bool = False
    """They are those of a whole segmentor, which a config's model takes as they are."""


SOURCES = {
    "missformer": Source(missformer.convert, ("medical_seg/missformer_40k_synapse.py",)),
    "transunet": Source(transunet.convert, ("medical_seg/transunet_40k_synapse.py",)),
    "mednext": Source(mednext.convert, ("medical_seg/mednext_40k_synapse.py",)),
    "swin_unetr": Source(swin_unetr.convert, ("medical_seg/swin_unetr_base_40k_synapse.py",)),
    "attn_unet": Source(mmseg_kd.convert, ("attn_unet/attn_ma_unet_r18v1c_synapse_40k.py",)),
    "mmengine": Source(dict, is_whole=True),
    "resnet": Source(resnet.convert),
    "mmseg_kd": Source(
        mmseg_kd.convert,
        (
            "unet/unet_r18v1c_d8_40k_synapse.py",
            "unet/unet_r50_s4_d8_40k_synapse.py",
            "mmseg_kd/unet_r50_d32_40k_synapse.py",
            "fcn/fcn_r18_d8_40k_synapse.py",
            "fcn/fcn_r50_d8_40k_synapse.py",
        ),
    ),
}
