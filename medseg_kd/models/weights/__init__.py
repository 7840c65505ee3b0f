"""Checkpoints of other code, turned into ours: one module for each source, with one function ``convert``.

A source is the name of its module: ``convert(state)`` maps the other code's names and tensors to those of our network.
What it does not know it leaves as it is, so that strict loading refuses it by name.
"""

import importlib

from torch import Tensor

SOURCES: dict[str, tuple[str, ...]] = {
    "missformer": ("medical_seg/missformer_40k_synapse.py",),
    "transunet": ("medical_seg/transunet_40k_synapse.py",),
    "mednext": ("medical_seg/mednext_40k_synapse.py",),
    "swin_unetr": ("medical_seg/swin_unetr_base_40k_synapse.py",),
    "attn_unet": ("attn_unet/attn_ma_unet_r18v1c_synapse_40k.py",),
    "resnet": (),
    "mmseg_kd": (
        "unet/unet_r18v1c_d8_40k_synapse.py",
        "unet/unet_r50_s4_d8_40k_synapse.py",
        "mmseg_kd/unet_r50_d32_40k_synapse.py",
        "fcn/fcn_r18_d8_40k_synapse.py",
        "fcn/fcn_r50_d8_40k_synapse.py",
    ),
}
"""The configs whose networks a source's checkpoints fit; none: the result is an encoder, not a network."""


def convert(source: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of our network, or encoder, from the ``state_dict`` of a source.

    Args:
        source: A key of :data:`SOURCES`.
        state: Name to tensor, as the source's code saved it.

    Raises:
        UserError: The weights are not what the source's code saves.
    """
    return importlib.import_module(f"{__name__}.{source}").convert(state)
