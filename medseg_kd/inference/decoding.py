"""From probabilities to labels."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from medseg_kd.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

DECODINGS = ("argmax", "rankseg")


def decoder(name: str) -> "Callable[[Any, Tensor], Tensor]":
    """What gives labels (N, H, W) uint8 of a segmentor and probabilities (N, C, H, W), slice by slice.

    Args:
        name: ``argmax``, the most probable class; ``rankseg``, the labels of the largest expected Dice of a slice (Dai
            and Li, 2023; Wang and Dai, 2025), which needs the package ``rankseg``.

    Raises:
        UserError: It is not known, or not installed.
    """
    if name == "argmax":
        return _most_probable
    if name != "rankseg":
        raise UserError(f"decoding is {name!r}: expected {' or '.join(DECODINGS)}")
    try:
        import torch
        from rankseg import RankSEG
    except ImportError as error:
        raise UserError("decoding by rankseg needs its package: pip install rankseg") from error

    settings: dict[str, Any] = {"metric": "dice", "solver": "RMA", "safe_screening": "auto"}  # sorts uncertain pixels

    def decode(model: Any, probabilities: "Tensor") -> "Tensor":
        if not model.overlapping:
            return RankSEG(**settings)(probabilities).to(torch.uint8)
        masks = RankSEG(**settings, output_mode="multilabel")(probabilities)
        return model.decode(torch.where(masks, torch.inf, -torch.inf))

    return decode


def _most_probable(model: Any, probabilities: "Tensor") -> "Tensor":
    """Labels as the segmentor decodes logits."""
    return model.decode(probabilities.logit())
