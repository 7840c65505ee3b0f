"""MedNeXt of its authors (MIC-DKFZ/MedNeXt, ``mednextv1``, two-dimensional)."""

from torch import Tensor

from medseg_kd.models.weights.renaming import rename

_RULES = {
    r"^bottleneck\.": "encoder.4.",
    r"^enc_block_(\d)\.": r"encoder.\1.",
    r"^dec_block_(\d)\.": r"decoder.\1.",
    r"^(down|up)_(\d)\.": r"\1.\2.",
    r"^out_0\.": "head.",
}
_HEADS = {f"out_{level}.conv_out.{kind}" for level in range(1, 5) for kind in ("weight", "bias")}


def convert(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of :class:`~medseg_kd.models.MedNeXt` from the authors'.

    What only the authors' training needs is dropped: ``dummy_tensor`` of gradient checkpointing, and the classifiers
    ``out_1`` to ``out_4`` of deep supervision, which do not take part in the prediction.
    """
    return rename(state, _RULES, unused={"dummy_tensor", *_HEADS})
