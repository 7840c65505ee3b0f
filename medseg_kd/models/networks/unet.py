"""U-Net on a ResNet encoder."""

from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from medseg_kd.models.networks.head import LogitsHead
from medseg_kd.models.networks.input_check import check_input
from medseg_kd.models.networks.resnet import build_resnet, resnet_feature_info
from medseg_kd.registry import MODELS


class UpBlock(nn.Module):
    """One decoder step: bring the deeper feature to the skip's size and width, concatenate, 3x3 convolutions.

    Args:
        in_channels: Channels of the deeper feature.
        skip_channels: Channels of the skip and of the output.
        norm_cfg: Normalisation of every convolution.
        act_cfg: Activation of every convolution.
        num_convs: Number of 3x3 convolutions.
    """

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        norm_cfg: dict[str, Any],
        act_cfg: dict[str, Any],
        num_convs: int = 2,
    ) -> None:
        super().__init__()
        layer = {"norm_cfg": norm_cfg, "act_cfg": act_cfg}
        self.reduce = ConvModule(in_channels, skip_channels, 1, **layer)
        widths = [2 * skip_channels] + [skip_channels] * (num_convs - 1)
        self.fuse = nn.Sequential(*(ConvModule(width, skip_channels, 3, padding=1, **layer) for width in widths))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Fuse (N, in_channels, h, w) with the skip (N, skip_channels, H, W) into (N, skip_channels, H, W)."""
        if x.shape[-2:] != skip.shape[-2:]:
            x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
        return self.fuse(torch.cat((skip, self.reduce(x)), dim=1))


@MODELS.register_module()
class UNet(BaseModule):
    """U-Net (Ronneberger et al., MICCAI 2015) whose contracting path is a ResNet.

    The decoder walks from the deepest stage to the shallowest. Each classifier is a channel dropout and a 1x1
    convolution. In training an auxiliary classifier on the decoder's deepest level gives a second output.

    Args:
        backbone: Config of an MMSegmentation ResNet.
        num_classes: Classes with background.
        in_channels: Channels of the image; None leaves them to the backbone's config.
        auxiliary: Add the auxiliary classifier.
        norm_cfg: Normalisation of decoder and classifiers.
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
        super().__init__(init_cfg)
        norm_cfg = norm_cfg or {"type": "BN"}
        act_cfg = act_cfg or {"type": "ReLU"}
        self.backbone, self.in_channels = build_resnet(backbone, in_channels)
        self.feature_info = resnet_feature_info(self.backbone)
        channels = [stage["channels"] for stage in reversed(self.feature_info)]
        self.decoder = nn.ModuleList(
            self.block(deep, shallow, norm_cfg=norm_cfg, act_cfg=act_cfg, num_convs=num_convs)
            for deep, shallow in zip(channels, channels[1:], strict=False)
        )
        self.head = _classifier(channels[-1], num_classes, dropout_ratio)
        self.auxiliary_head = _classifier(channels[1], num_classes, dropout_ratio) if auxiliary else None

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map (N, in_channels, H, W) to logits (N, C, h, w), sized as the first stage; in training also auxiliary."""
        check_input(self, x)
        *skips, x = self.backbone(x)
        levels = []
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            x = block(x, skip)
            levels.append(x)
        logits = self.head([x])
        if self.training and self.auxiliary_head is not None:
            return logits, self.auxiliary_head(levels[:1])
        return logits


def _classifier(channels: int, num_classes: int, dropout_ratio: float) -> LogitsHead:
    """Dropout and 1x1 convolution: MMSegmentation's FCN head without convolutions of its own."""
    return LogitsHead(
        in_channels=channels,
        channels=channels,
        num_classes=num_classes,
        num_convs=0,
        concat_input=False,
        dropout_ratio=dropout_ratio,
    )
