"""The loss of regions, which may overlap."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medseg_kd.models.losses.gathering import count
from medseg_kd.models.losses.soft_dice import dice_axes, dice_loss
from medseg_kd.registry import MODELS

_LABELS = 256


@MODELS.register_module()
class RegionLoss(nn.Module):
    """Binary cross-entropy and soft Dice of the masks of regions, as nnU-Net v2 trains them (``DC_and_BCE_loss``).

    For region r with probability p = sigmoid(z) and mask g over M valid pixels of R regions::

        bce  = -1 / (M * R) * sum(g * log p + (1 - g) * log(1 - p))
        dice = 1 - mean_r (2 * sum(p * g) + eps) / (sum(p) + sum(g) + eps)
        loss = bce_weight * bce + dice_weight * dice

    nnU-Net's Dice is without the 1, and where its data have an ignore label it divides the cross-entropy by M alone,
    which makes that R times larger; here data with and without one are trained alike. The batch of the Dice is that of
    all processes, see :class:`SoftDiceLoss`.

    Args:
        regions: The classes of each region, in the order of the logits; a :class:`RegionSegmentor` fills them in.
        batch_dice: Sum over the batch before the ratio; False gives the mean over images and regions.
        eps: Keeps a region that is absent from label and prediction at Dice 1.
    """

    table: Tensor

    def __init__(
        self,
        regions: Sequence[Sequence[int]],
        bce_weight: float = 1.0,
        dice_weight: float = 1.0,
        batch_dice: bool = True,
        eps: float = 1e-5,
        loss_name: str = "loss_region",
    ) -> None:
        super().__init__()
        table = torch.zeros(len(regions), _LABELS, dtype=torch.bool)
        for row, members in zip(table, regions, strict=True):
            row[list(members)] = True
        self.register_buffer("table", table, persistent=False)
        self.bce_weight = bce_weight
        self.dice_weight = dice_weight
        self.batch_dice = batch_dice
        self.eps = eps
        self.loss_name = loss_name

    def forward(self, logits: Tensor, label: Tensor, ignore_index: int = 255) -> Tensor:
        """Scalar, float32 or better, of logits (N, R, H, W) and labels (N, H, W) of any integer type.

        Pixels of ``ignore_index`` take no part; where none is left, the loss is a zero connected to the graph.
        """
        ignored = (label == ignore_index)[:, None]
        # 0 is background, which no region has.
        target = self.table[:, label.long().masked_fill(ignored[:, 0], 0)].transpose(0, 1)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        with torch.autocast(logits.device.type, enabled=False):
            p = logits.sigmoid().masked_fill(ignored, 0)
            size = target.sum(dice_axes(self.batch_dice))
            dice = dice_loss(p, target, size, self.batch_dice, self.training, self.eps)
            bce = F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none")
            bce = bce.masked_fill(ignored, 0).sum() / count((~ignored).sum() * logits.shape[1], self.training)
            return self.bce_weight * bce + self.dice_weight * dice
