"""MONAI's blocks of MedNeXt, one of them in less time."""

import torch.nn.functional as F
from monai.networks.blocks.mednext_block import MedNeXtBlock, MedNeXtDownBlock, MedNeXtOutBlock, MedNeXtUpBlock
from torch import Tensor

__all__ = ["MedNeXtBlock", "MedNeXtDownBlock", "MedNeXtOutBlock", "UpBlock"]


class UpBlock(MedNeXtUpBlock):
    """Doubles height and width; MONAI's block with the sum of its two branches padded instead of each of them."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, h, w) to (N, out_channels, 2h, 2w)."""
        return F.pad(MedNeXtBlock.forward(self, x) + self.res_conv(x), (1, 0, 1, 0))
