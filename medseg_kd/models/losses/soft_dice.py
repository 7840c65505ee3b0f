"""Soft Dice loss over a batch."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medseg_kd.registry import MODELS


@MODELS.register_module()
class SoftDiceLoss(nn.Module):
    """One minus the mean soft Dice of the foreground classes.

    For class c with softmax probability p and one-hot label g, summed over the valid pixels of the batch::

        Dice_c = (2 * sum(p * g) + eps) / (sum(p) + sum(g) + eps),    loss = 1 - mean_c Dice_c

    This is the loss of nnU-Net (Isensee et al., Nature Methods 2021; batch Dice, no background), which the project's
    recipe uses. MMSegmentation's ``DiceLoss`` is another one: it sums over all classes together and squares.

    Args:
        loss_weight: Multiplies the result.
        batch_dice: Sum over the batch before the ratio; False gives the mean over images and classes.
        include_background: Count class 0 too.
        eps: Keeps a class that is absent from label and prediction at Dice 1.
        loss_name: Key in the training log.
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
        """Compute the loss.

        Args:
            logits: (N, C, H, W).
            label: (N, H, W) class indices; pixels of ``ignore_index`` take no part.

        Returns:
            Scalar, float32.
        """
        classes = logits.shape[1]
        valid = (label != ignore_index).unsqueeze(1)
        probability = logits.float().softmax(1) * valid
        target = F.one_hot(torch.where(valid[:, 0], label, 0), classes).movedim(-1, 1) * valid
        if not self.include_background:
            probability, target = probability[:, 1:], target[:, 1:]
        axes = (0, 2, 3) if self.batch_dice else (2, 3)
        overlap = (probability * target).sum(axes)
        total = probability.sum(axes) + target.sum(axes)
        dice = (2 * overlap + self.eps) / (total + self.eps)
        return self.loss_weight * (1 - dice.mean())
