"""How a segmentor calls a loss: any module that maps logits and what they should be to a number."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medseg_kd.errors import UserError

IGNORED = ("ignore_index", "ignore_label")
"""Arguments that tell a loss the label of pixels that take no part."""
_NACL = "monai.losses.nacl_loss"
"""MONAI's one loss that takes a label without a channel axis."""


class LossCall:
    """How a loss wants to be called, by the arguments of its ``forward`` and by where it comes from.

    Attributes:
        where: Its place in the config and its class, for messages.
        name: Key in the training log; empty where it has none of its own.
        weight: What the segmentor multiplies it with.
        told: The arguments that tell it ``ignore_index``.
        shares: It takes ``of_label``, a dict in which it keeps what it has computed of a label alone, for the next call
            with the same label and number of classes.
        channel: The label gets a channel axis, (N, 1, H, W), as MONAI's losses take it.
        regions: The classes of each region where the target is their masks, (N, R, H, W) float; else it is the label.
        foreign: It is not ours, and may ask for a ``view`` of what is not contiguous.
        leaves_out: Whether ignored pixels change nothing; False where that is not known.
    """

    def __init__(
        self,
        loss: nn.Module,
        where: str,
        ignore_index: int,
        regions: Sequence[Sequence[int]] = (),
        loss_name: str | None = None,
        loss_weight: float = 1.0,
    ) -> None:
        kind = type(loss)
        takes = inspect.signature(loss.forward).parameters
        told = [key for key in IGNORED if key in takes]
        if not told and any(each.kind is each.VAR_KEYWORD for each in takes.values()):
            told = ["ignore_index"]
        origins = {base.__module__ for base in kind.__mro__}
        self.where = f"{where} ({kind.__name__})"
        self.ignore_index = ignore_index
        self.name = str(loss_name or getattr(loss, "loss_name", ""))
        self.weight = loss_weight
        self.told = dict.fromkeys(told, ignore_index)
        self.shares = "of_label" in takes
        self.channel = any(name.startswith("monai.losses") for name in origins) and _NACL not in origins
        self.regions = () if "regions" in inspect.signature(kind).parameters else regions
        self.foreign = not kind.__module__.startswith("medseg_kd.")
        self.leaves_out = False

    def __call__(
        self, loss: nn.Module, logits: Tensor, label: Tensor, of_label: dict[str, Any] | None = None
    ) -> Tensor:
        """The loss of logits (N, C, H, W) and their label (N, H, W), int64: a scalar, not weighted.

        ``of_label`` is the same dict for all outputs of one batch.

        Raises:
            UserError: The label holds ignored pixels, which the loss would count.
        """
        if not self.leaves_out and (label == self.ignore_index).any():
            raise UserError(
                f"{self.where} counts all pixels, but some of this batch are to be ignored: their label is "
                f"{self.ignore_index} (model.ignore_index), that of the data or of padding. Take a loss that leaves "
                "them out, such as CrossEntropyLoss and SoftDiceLoss, or give your own an argument ignore_index"
            )
        return self.value(loss, logits, label, **({"of_label": of_label} if self.shares else {}))

    def value(self, loss: nn.Module, logits: Tensor, label: Tensor, **more: Any) -> Tensor:
        """What the loss itself gives, whatever the label holds."""
        target = self.target(label)
        if self.foreign:
            logits, target = logits.contiguous(), target.contiguous()
        return loss(logits, target, **self.told, **more)

    def target(self, label: Tensor) -> Tensor:
        """What logits are compared with: the label (N, H, W), (N, 1, H, W), or masks (N, R, H, W)."""
        if self.regions:
            masks = [torch.stack([label == value for value in members]).any(0) for members in self.regions]
            return torch.stack(masks, dim=1).float()
        return label[:, None] if self.channel else label
