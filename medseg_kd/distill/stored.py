"""A teacher that does not run: probabilities that were stored before."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medseg_kd.errors import UserError
from medseg_kd.registry import MODELS

_LOWEST = 2.0**-24
"""The smallest number of float16 above 0: what a probability that was stored as 0 counts as."""


@MODELS.register_module()
class StoredTeacher(nn.Module):
    """Teaches the probabilities of each training case that lie in files; anything may have predicted them.

    The runner gives ``folder`` to the training data as its ``soft_labels``; the probabilities p come with each batch,
    augmented as the slices are. Its logits are log p at the full resolution. Losses that form a softmax over classes
    (KD, DKD, DIST, LSKD) are what the network's own logits would have given, at any temperature: they differ by a
    number for each pixel alone. CWD's softmax over pixels, which BPKD takes of the bodies, is of log p / T, whose
    classes compete at a pixel.

    Args:
        folder: Where the files are, or several folders, such as the ``fold_<i>/validation`` of nnU-Net.
    """

    def __init__(self, folder: str | Sequence[str]) -> None:
        super().__init__()
        folders = [folder] if isinstance(folder, str) else folder
        if not isinstance(folders, (list, tuple)) or not folders or not all(isinstance(each, str) for each in folders):
            raise UserError(f"model.teacher.folder is {folder!r}: expected a folder, or a list of them")
        self.weights_source = f"the probabilities in {', '.join(folders)}"
        self.network = LogProbabilities()
        self.data_preprocessor = None

    @property
    def feature_info(self) -> Any:
        """There are no stages: asking for them is an error."""
        raise UserError(
            f"the stored teacher ({self.weights_source}) has probabilities and no features, which this method "
            "compares (as AT, ReviewKD and CWD's stage do). Choose one on logits (KD, DKD, DIST, CWD, BPKD, LSKD), "
            "or a teacher that runs"
        )

    def forward(self, soft: Tensor, mode: str = "tensor") -> Tensor:
        """Logits of probabilities, both (N, K, H, W)."""
        return self.network(soft)

    def decode(self, logits: Tensor) -> Tensor:
        """Classes (N, H, W) uint8 of logits (N, K, H, W): the one of the largest logit."""
        return logits.argmax(1).to(torch.uint8)


class LogProbabilities(nn.Module):
    """The logarithm of probabilities, in the place of a network."""

    def forward(self, soft: Tensor) -> Tensor:
        """(N, K, H, W) of the same shape."""
        return torch.log(soft.clamp(min=_LOWEST))
