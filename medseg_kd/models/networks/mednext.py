"""MedNeXt: the published network in two dimensions, of MONAI's blocks, which are imported when one is built."""

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from medseg_kd.errors import UserError
from medseg_kd.models.networks.input_check import check_input
from medseg_kd.registry import MODELS


@MODELS.register_module()
class MedNeXt(BaseModule):
    """MedNeXt (Roy et al., MICCAI 2023) without deep supervision; the defaults are the published base network.

    Each level has half the size and twice the channels of the one above it. ``encoder`` has a stage of blocks for each
    level, the bottleneck included, and ``decoder`` one for each level above it. ``down[i]`` leads from level i to level
    i + 1 and ``up[i]`` back, with the expansion ratio of the stage that they lead to. MONAI's own ``MedNeXt`` gives
    ``down`` the ratio of the stage that it leaves, so that the published weights do not fit it.

    Args:
        channels: Channels of the first level.
        expansion_ratios: Channels inside the blocks over those outside, for each stage in the order of the data: down
            the encoder and up the decoder. 2 * levels - 1 numbers.
        block_counts: Blocks of each stage, in the same order.
        kernel_size: Side of the depthwise kernels.

    Raises:
        UserError: The numbers of ratios and of counts do not make an encoder and a decoder.
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
        self.in_channels = in_channels
        if len(expansion_ratios) != len(block_counts) or len(block_counts) % 2 == 0:
            raise UserError(
                f"MedNeXt has {len(expansion_ratios)} expansion_ratios and {len(block_counts)} block_counts; it needs "
                "as many of both, an odd number: one for each stage down to the bottleneck and up again"
            )
        from medseg_kd.models.networks.mednext_blocks import MedNeXtBlock, MedNeXtDownBlock, MedNeXtOutBlock, UpBlock

        levels = len(expansion_ratios) // 2 + 1
        widths = [channels * 2**level for level in range(levels)]
        stages = list(zip(widths + widths[-2::-1], expansion_ratios, block_counts, strict=True))
        block: dict[str, Any] = {"kernel_size": kernel_size, "use_residual_connection": True, "dim": "2d"}

        def stage(width: int, ratio: int, count: int) -> nn.Sequential:
            return nn.Sequential(*(MedNeXtBlock(width, width, ratio, **block) for _ in range(count)))

        self.stem = nn.Conv2d(in_channels, channels, 1)
        self.encoder = nn.ModuleList(stage(*told) for told in stages[:levels])
        self.decoder = nn.ModuleList(stage(*told) for told in stages[:-levels:-1])
        self.down = nn.ModuleList(
            MedNeXtDownBlock(width // 2, width, ratio, **block) for width, ratio, _ in stages[1:levels]
        )
        self.up = nn.ModuleList(UpBlock(2 * width, width, ratio, **block) for width, ratio, _ in stages[:-levels:-1])
        self.head = MedNeXtOutBlock(channels, num_classes, "2d")
        self.size_divisor = 2 ** (levels - 1)
        self.feature_info = [
            {"module": f"encoder.{level}", "channels": width, "reduction": 2**level}
            for level, width in enumerate(widths)
        ]

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W), both multiples of ``size_divisor`` (16), to logits (N, C, H, W)."""
        check_input(self, x)
        x = self.encoder[0](self.stem(x))
        skips = []
        for down, stage in zip(self.down, self.encoder[1:], strict=True):
            skips.append(x)
            x = stage(down(x))
        for up, stage in zip(reversed(self.up), reversed(self.decoder), strict=True):
            x = stage(skips.pop() + up(x))
        return self.head(x)
