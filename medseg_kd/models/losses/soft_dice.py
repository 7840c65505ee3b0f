"""Soft Dice loss over a batch."""

import torch
from torch import Tensor, nn

from medseg_kd.models.losses.gathering import sum_over_processes
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

    def forward(self, logits: Tensor, label: Tensor, ignore_index: int = 255) -> Tensor:
        """Scalar, float32 or better, of logits (N, C, H, W) and labels (N, H, W) of any integer type.

        Pixels of ``ignore_index`` take no part.
        """
        first = 0 if self.include_background else 1
        label = label.long()[:, None]
        ignored = label == ignore_index
        classes = torch.arange(first, logits.shape[1], device=label.device)[:, None, None]
        target = label.masked_fill(ignored, -1) == classes
        dtype = torch.promote_types(logits.dtype, torch.float32)
        probability = logits.softmax(1, dtype=dtype)[:, first:].masked_fill(ignored, 0)
        dice = soft_dice(probability, target, self.batch_dice, self.training, self.eps)
        return self.loss_weight * (1 - dice.mean())


def soft_dice(probability: Tensor, target: Tensor, batch_dice: bool, training: bool, eps: float) -> Tensor:
    """Soft Dice of each channel.

    Args:
        probability: (N, C, H, W), 0 where pixels take no part.
        target: Masks of the same shape, bool, likewise.
        batch_dice: Sum over the batch before the ratio.
        training: With ``batch_dice`` the batch is that of all processes.
        eps: Added to both sides of the ratio.

    Returns:
        (C,) with ``batch_dice``, else (N, C).
    """
    axes = (0, 2, 3) if batch_dice else (2, 3)
    overlap = probability.masked_fill(~target, 0).sum(axes)
    sums = torch.stack((overlap, probability.sum(axes) + target.sum(axes)))
    sums = sum_over_processes(sums, batch_dice and training)
    return (2 * sums[0] + eps) / (sums[1] + eps)
