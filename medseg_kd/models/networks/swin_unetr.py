"""Swin-UNETR: MONAI's decoder on an encoder that compiles and exports for every size.

MONAI is imported when one is built.
"""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from medseg_kd.errors import UserError
from medseg_kd.models.networks.input_check import check_input
from medseg_kd.registry import MODELS


@MODELS.register_module()
class SwinUNETR(BaseModule):
    """Swin UNETR (Hatamizadeh et al., BrainLes 2021, arXiv:2201.01266) in two dimensions.

    It has the names and shapes of the parameters of MONAI's ``SwinUNETR`` and gives the same logits. The stages in
    ``feature_info`` are the five maps that the decoder takes: the patch embedding and the output of each Swin stage,
    normalised over the channels.

    Args:
        feature_size: Channels of the patch embedding; each of the four stages doubles them.
        depths: Blocks of each stage.
        num_heads: Attention heads of each stage.
        window_size: Side of an attention window in tokens.
        drop_rate: Dropout of the patch embedding and after the projections.
        attn_drop_rate: Dropout of the attention.
        drop_path_rate: Chance that a residual is left out in the last block; it grows linearly from 0.

    Raises:
        UserError: There are not four stages, or the heads do not divide the channels.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 1,
        feature_size: int = 48,
        depths: Sequence[int] = (2, 2, 2, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.in_channels = in_channels
        widths = [feature_size * 2**index for index in range(5)]
        if not len(depths) == len(num_heads) == 4 or any(c % n for c, n in zip(widths, num_heads, strict=False)):
            raise UserError(
                f"SwinUNETR got depths {tuple(depths)}, num_heads {tuple(num_heads)} and feature_size {feature_size}; "
                "it needs four of both, one for each stage, and heads that divide the stages' channels "
                f"{tuple(widths[:4])}"
            )
        from monai.networks.blocks import UnetOutBlock, UnetrBasicBlock, UnetrUpBlock

        from medseg_kd.models.networks.swin_encoder import SwinEncoder

        self.swinViT = SwinEncoder(
            in_channels, feature_size, depths, num_heads, window_size, drop_rate, attn_drop_rate, drop_path_rate
        )
        self.encoder1 = _block(UnetrBasicBlock, 1, in_channels, widths[0])
        self.encoder2 = _block(UnetrBasicBlock, 1, widths[0], widths[0])
        self.encoder3 = _block(UnetrBasicBlock, 1, widths[1], widths[1])
        self.encoder4 = _block(UnetrBasicBlock, 1, widths[2], widths[2])
        self.encoder10 = _block(UnetrBasicBlock, 1, widths[4], widths[4])
        self.decoder5 = _block(UnetrUpBlock, 2, widths[4], widths[3])
        self.decoder4 = _block(UnetrUpBlock, 2, widths[3], widths[2])
        self.decoder3 = _block(UnetrUpBlock, 2, widths[2], widths[1])
        self.decoder2 = _block(UnetrUpBlock, 2, widths[1], widths[0])
        self.decoder1 = _block(UnetrUpBlock, 2, widths[0], widths[0])
        self.out = UnetOutBlock(2, widths[0], num_classes)
        self.size_divisor = 32
        self.feature_info = [
            {"module": f"swinViT.maps.{index}", "channels": width, "reduction": 2 ** (index + 1)}
            for index, width in enumerate(widths)
        ]

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W), both multiples of 32, to logits (N, C, H, W).

        Raises:
            UserError: The network does not take that size.
        """
        check_input(self, x)
        if x.shape[-2] * x.shape[-1] == self.size_divisor**2:
            raise UserError(
                "SwinUNETR cannot normalise the one value a channel that is left of a 32x32 input; the smallest sizes "
                "are 32x64 and 64x32"
            )
        maps = self.swinViT(x)
        x4 = self.decoder5(self.encoder10(maps[4]), maps[3])
        x3 = self.decoder4(x4, self.encoder4(maps[2]))
        x2 = self.decoder3(x3, self.encoder3(maps[1]))
        x1 = self.decoder2(x2, self.encoder2(maps[0]))
        return self.out(self.decoder1(x1, self.encoder1(x)))


def _block(kind: type[nn.Module], factor: int, in_channels: int, channels: int) -> nn.Module:
    """A block of MONAI's: (N, in_channels, h, w), beside a skip or not, to (N, channels, factor * h, factor * w).

    Its instance norm is a group norm of one channel a group. It gives the same, but PyTorch's instance norm returns a
    view, which the in-place activation after it makes autograd copy.
    """
    return kind(2, in_channels, channels, 3, factor, ("group", dict(num_groups=channels, affine=False)), res_block=True)
