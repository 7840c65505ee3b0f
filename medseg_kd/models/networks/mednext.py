"""MedNeXt: the published two-dimensional network, composed of MONAI's blocks."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from monai.networks.blocks.mednext_block import MedNeXtBlock, MedNeXtDownBlock, MedNeXtOutBlock, MedNeXtUpBlock
from torch import Tensor, nn

from medseg_kd.models.padding import check_divisible
from medseg_kd.registry import MODELS


@MODELS.register_module()
class MedNeXt(BaseModule):
    """MedNeXt (Roy et al., MICCAI 2023) without deep supervision; the defaults are the published base network.

    A level halves the size and doubles the channels of the one above it. ``encoder`` has one stage of blocks for each
    level, the last of them the bottleneck, and ``decoder`` one for each level but the last; ``down[i]`` and ``up[i]``
    lead from level i to level i + 1 and back. A resampling block has the expansion ratio of the stage that it feeds, as
    in the authors' code; MONAI's own ``MedNeXt`` gives ``down`` that of the stage before.

    Args:
        num_classes: Classes with background.
        in_channels: Channels of the image.
        channels: Channels of the first level.
        expansion_ratios: Width of the inner convolution over the channels, for each stage from the first of the encoder
            through the bottleneck to the last of the decoder: 2 * levels - 1 numbers.
        block_counts: Blocks of each stage, in the same order.
        kernel_size: Side of the depthwise kernels.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 1,
        channels: int = 32,
        expansion_ratios: Sequence[int] = (2, 3, 4, 4, 4, 4, 4, 3, 2),
        block_counts: Sequence[int] = (2, 2, 2, 2, 2, 2, 2, 2, 2),
        kernel_size: int = 3,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        deepest = len(expansion_ratios) // 2
        widths = [channels * 2**level for level in range(deepest + 1)]
        ratios = list(expansion_ratios)
        common = {"kernel_size": kernel_size, "use_residual_connection": True, "dim": "2d"}
