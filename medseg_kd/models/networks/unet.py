"""U-Net on a ResNet encoder."""

from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from medseg_kd.models.networks.resnet import LogitsHead, NetworkOnResNet
from medseg_kd.registry import MODELS


class UpBlock(nn.Module):
    """One decoder step: bring the deeper feature to the skip's size and width, concatenate, 3x3 convolutions."""

    def __init__(self, in_channels: int, skip_channels: int, num_convs: int, **layer: Any) -> None:
        super().__init__()
        self.reduce = ConvModule(in_channels, skip_channels, 1, **layer)
        widths = [2 * skip_channels] + [skip_channels] * (num_convs - 1)
        self.fuse = nn.Sequential(*(ConvModule(width, skip_channels, 3, padding=1, **layer) for width in widths))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Fuse (N, in_channels, h, w) with the skip (N, skip_channels, H, W) into (N, skip_channels, H, W)."""
        if x.shape[-2:] != skip.shape[-2:]:
            x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
        return self.fuse(torch.cat((skip, self.reduce(x)), dim=1))


@MODELS.register_module()
class UNet(NetworkOnResNet):
    """U-Net (Ronneberger et al., MICCAI 2015) whose contracting path is a ResNet; logits have the first stage's size.

    The decoder walks from the deepest stage to the shallowest. Each classifier is a channel dropout and a 1x1
    convolution. In training an auxiliary classifier on the decoder's deepest level gives a second output.

    Args:
        backbone: Config of an MMSegmentation ResNet.
        in_channels: Channels of the image; None leaves them to the backbone's config.
        auxiliary: Add the auxiliary classifier.
        norm_cfg: Normalisation of the decoder.
        act_cfg: Activation of the decoder.
        dropout_ratio: Channel dropout before each classifier.
        num_convs: Number of 3x3 convolutions in each decoder step.
    """

    block: type[UpBlock] = UpBlock
    """A decoder step."""

    def __init__(
        self,
        backbone: dict[str, Any],
        num_classes: int,
        in_channels: int | None = None,
        auxiliary: bool = True,
        norm_cfg: dict[str, Any] | None = None,
        act_cfg: dict[str, Any] | None = None,
        dropout_ratio: float = 0.1,
        num_convs: int = 2,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(backbone, in_channels, init_cfg)
        layer = {"norm_cfg": norm_cfg or {"type": "BN"}, "act_cfg": act_cfg or {"type": "ReLU"}}
        widths = [stage["channels"] for stage in reversed(self.feature_info)]
        self.decoder = nn.ModuleList(
            self.block(deep, shallow, num_convs, **layer) for deep, shallow in zip(widths, widths[1:], strict=False)
        )
        # MMSegmentation's FCN head without convolutions of its own.
        classifier = dict(num_classes=num_classes, num_convs=0, concat_input=False, dropout_ratio=dropout_ratio)
        self.head = LogitsHead(in_channels=widths[-1], channels=widths[-1], in_index=-1, **classifier)
        self.auxiliary_head = (
            LogitsHead(in_channels=widths[1], channels=widths[1], in_index=0, **classifier) if auxiliary else None
        )

    def features(self, x: Tensor) -> list[Tensor]:
        """Maps of the decoder, deep to shallow."""
        *skips, x = self.backbone(x)
        levels = []
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            x = block(x, skip)
            levels.append(x)
        return levels
