"""Soft Dice loss over a batch."""

from typing import Any

import torch
from torch import Tensor, nn

from medseg_kd.models.losses import gathering
from medseg_kd.registry import MODELS


@MODELS.register_module()
class SoftDiceLoss(nn.Module):
    """One minus the mean soft Dice of the foreground classes.

    For class c with softmax probability p and one-hot label g, summed over the valid pixels of the batch::

        Dice_c = (2 * sum(p * g) + eps) / (sum(p) + sum(g) + eps),    loss = 1 - mean_c Dice_c

    This is the loss of nnU-Net (Isensee et al., Nature Methods 2021; batch Dice, no background), which the project's
    recipe uses. MMSegmentation's ``DiceLoss`` is another one: it sums over all classes together and squares. In
    training with several processes the batch is that of all of them, as in nnU-Net.

    Args:
        batch_dice: Sum over the batch before the ratio; False gives the mean over images and classes.
        include_background: Count class 0 too.
        eps: Keeps a class that is absent from label and prediction at Dice 1.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        batch_dice: bool = True,
        include_background: bool = False,
        eps: float = 1e-5,
        loss_name: str = "loss_dice",
    ) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.batch_dice = batch_dice
        self.include_background = include_background
        self.eps = eps
        self.loss_name = loss_name

    def forward(
        self, logits: Tensor, label: Tensor, ignore_index: int = 255, of_label: dict[str, Any] | None = None
    ) -> Tensor:
        """Scalar, float32 or better, of logits (N, C, H, W) and labels (N, H, W) of any integer type.

        Pixels of ``ignore_index`` take no part. ``of_label``: see :class:`LossCall`.
        """
        first, end = 0 if self.include_background else 1, logits.shape[1]
        of_label = {} if of_label is None else of_label
        if "target" not in of_label:
            label = label.long()[:, None]
            ignored = label == ignore_index
            classes = torch.arange(first, end, device=label.device)[:, None, None]
            target = (label.masked_fill(ignored, -1) if first <= ignore_index < end else label) == classes
            of_label.update(ignored=ignored, target=target, size=target.sum(dice_axes(self.batch_dice)))
        dtype = torch.promote_types(logits.dtype, torch.float32)
        probability = logits.softmax(1, dtype=dtype)[:, first:].masked_fill(of_label["ignored"], 0)
        loss = dice_loss(probability, of_label["target"], of_label["size"], self.batch_dice, self.training, self.eps)
        return loss if self.loss_weight == 1 else self.loss_weight * loss


def dice_axes(batch_dice: bool) -> tuple[int, ...]:
    """What is summed over before the ratio."""
    return (0, 2, 3) if batch_dice else (2, 3)


def dice_loss(
    probability: Tensor, target: Tensor, size: Tensor, batch_dice: bool, training: bool, eps: float
) -> Tensor:
    """One minus the mean soft Dice of the channels; without ``batch_dice`` of the images too.

    Args:
        probability: (N, C, H, W), 0 where pixels take no part.
        target: Masks of the same shape, bool, likewise.
        size: Pixels of the masks, see :func:`dice_axes`.
        batch_dice: Sum over the batch before the ratio.
        training: With ``batch_dice`` the batch is that of all processes.
        eps: Added to both sides of the ratio.
    """
    axes = dice_axes(batch_dice)
    overlap = (probability * target).sum(axes)
    both = probability.sum(axes) + size
    if batch_dice and training and gathering.get_world_size() > 1:
        overlap, both = gathering.sum_over_processes(torch.stack((overlap, both)), training)
    # Twice the overlap, as the subtraction can double for nothing.
    half = (overlap + eps / 2) / (both + eps)
    return torch.rsub(half.mean(), 1, alpha=2)
