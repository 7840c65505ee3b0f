"""Cross-entropy over the pixels that are not ignored."""

from collections.abc import Sequence
from typing import Any

import mmseg.models.losses
import numpy as np
import torch
from mmseg.models.losses.utils import get_class_weight
from torch import Tensor
from torch.nn.functional import nll_loss

from medseg_kd.errors import UserError
from medseg_kd.models.losses.gathering import count
from medseg_kd.registry import MODELS


@MODELS.register_module()
class CrossEntropyLoss(mmseg.models.losses.CrossEntropyLoss):
    """Mean cross-entropy of the valid pixels, with a weight for each class y where ``class_weight`` is given.

        loss = sum(weight_y * -log p_y) / sum(weight_y),  p = softmax over C of the logits

    The divisor is the sum of the weights, as in PyTorch and MMSegmentation, not the number of pixels: doubling all
    weights changes nothing. In training with several processes it counts the pixels of all of them. MMSegmentation's
    class, whose configs work here, reads the number of valid pixels back from the device, and fails with
    ``class_weight`` and ``avg_non_ignore`` together; only what it has beyond this mean (sigmoid, masks, weights of
    pixels, other reductions) is left to it.

    Args:
        class_weight: One weight for each class, background first, or a file that holds them (npy, json, yaml, pkl). It
            moves with the model and is not saved.
        avg_non_ignore: False averages over all pixels, as MMSegmentation does by default.

    Raises:
        UserError: ``class_weight`` does not hold finite numbers >= 0, or all are 0.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        class_weight: Sequence[float] | str | None = None,
        loss_name: str = "loss_ce",
        avg_non_ignore: bool = True,
        use_sigmoid: bool = False,
        use_mask: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__(use_sigmoid, use_mask, reduction, None, loss_weight, loss_name, avg_non_ignore)
        del self.class_weight
        self.register_buffer("class_weight", _read(class_weight), persistent=False)
        self._mean_alone = reduction == "mean" and avg_non_ignore and not use_sigmoid and not use_mask

    def forward(
        self,
        logits: Tensor,
        label: Tensor,
        ignore_index: int = 255,
        of_label: dict[str, Any] | None = None,
        **others: Any,
    ) -> Tensor:
        """Compute the loss.

        Args:
            logits: (N, C, H, W).
            label: (N, H, W) class indices of any integer type.
            ignore_index: Label of pixels that take no part.
            of_label: See :class:`LossCall`.
            others: Further arguments of MMSegmentation's class.

        Returns:
            Scalar, float32 or better; a zero that is connected to the graph where no pixel is valid.

        Raises:
            UserError: ``class_weight`` has not one weight for each class.
        """
        if self.class_weight is not None and len(self.class_weight) != logits.shape[1]:
            raise UserError(
                f"CrossEntropyLoss: class_weight (model.losses in the config) has {len(self.class_weight)} weights, "
                f"but the network gives {logits.shape[1]} classes. Give one weight for each, background first"
            )
        if not self._mean_alone or any(value is not None for value in others.values()):
            return super().forward(logits, label, ignore_index=ignore_index, **others)
        dtype = torch.promote_types(logits.dtype, torch.float32)
        label = label.long()
        of_label = {} if of_label is None else of_label
        weight = None if self.class_weight is None else self.class_weight.to(dtype)
        if "counted" not in of_label:
            valid = label != ignore_index
            counted = valid.sum() if weight is None else (weight[label.masked_fill(~valid, 0)] * valid).sum()
            of_label["counted"] = count(counted, self.training, torch.finfo(dtype).tiny)
        # Not summed by the loss itself: on a GPU its sums are not deterministic.
        log_p = logits.log_softmax(1, dtype=dtype)
        values = nll_loss(log_p, label, weight, ignore_index=ignore_index, reduction="none")
        total = values.sum() if self.loss_weight == 1 else self.loss_weight * values.sum()
        return total / of_label["counted"]


def _read(class_weight: Sequence[float] | str | None) -> Tensor | None:
    """The weights (C,), float32."""
    if class_weight is None:
        return None
    try:
        weights = np.asarray(get_class_weight(class_weight), dtype=np.float32)
    except (OSError, TypeError, ValueError):
        weights = np.empty(0, np.float32)
    if weights.ndim != 1 or not np.isfinite(weights).all() or not weights.sum() > 0 or weights.min() < 0:
        raise UserError(
            f"CrossEntropyLoss: class_weight (model.losses in the config) is {class_weight!r}: expected one number "
            ">= 0 for each class, background first, and not all of them 0"
        )
    return torch.from_numpy(weights.copy())
