"""MedNeXt of its authors (MIC-DKFZ/MedNeXt, ``mednextv1``, two-dimensional)."""

import re

from torch import Tensor

_UNUSED = re.compile(r"dummy_tensor$|out_[1-4]\.")
_NAMES = (
    (re.compile(r"bottleneck\."), "encoder.4."),
    (re.compile(r"enc_block_(\d)\."), r"encoder.\1."),
    (re.compile(r"dec_block_(\d)\."), r"decoder.\1."),
    (re.compile(r"(down|up)_(\d)\."), r"\1.\2."),
    (re.compile(r"out_0\."), "head."),
)


def convert(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of :class:`~medseg_kd.models.MedNeXt`.

    What only the authors' training needs is dropped: ``dummy_tensor`` of gradient checkpointing, and the classifiers
    ``out_1`` to ``out_4`` of deep supervision, which do not take part in the prediction.

    Args:
        state: The authors' ``state_dict``.
    """
    return {_rename(key): value for key, value in state.items() if not _UNUSED.match(key)}


def _rename(key: str) -> str:
    """Our name of a weight; an unknown one stays."""
    for theirs, ours in _NAMES:
        if theirs.match(key):
            return theirs.sub(ours, key, count=1)
    return key
