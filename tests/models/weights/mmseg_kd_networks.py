"""FCN, U-Net and Attention U-Net with the names and layers of 605671435/mmseg-kd, for three-channel images."""

from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmseg.models.backbones import ResNetV1c
from mmseg.models.decode_heads import FCNHead
from torch import Tensor, nn


class GridAttentionBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.W = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))
        self.theta = nn.Conv2d(channels, channels, 2, stride=2, bias=False)
        self.phi = nn.Conv2d(2 * channels, channels, 1)
        self.psi = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor, gating: Tensor) -> Tensor:
        theta = self.theta(x)
        phi = F.interpolate(self.phi(gating), theta.shape[-2:], mode="bilinear")
        attention = torch.sigmoid(self.psi(F.relu(theta + phi)))
        return self.W(F.interpolate(attention, x.shape[-2:], mode="bilinear") * x)


class MultiAttentionBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate_block_1 = GridAttentionBlock(channels)
        self.gate_block_2 = GridAttentionBlock(channels)
        self.combine_gates = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )

    def forward(self, x: Tensor, gating: Tensor) -> Tensor:
        return self.combine_gates(torch.cat([self.gate_block_1(x, gating), self.gate_block_2(x, gating)], 1))


class InterpConv(nn.Module):
    def __init__(self, in_channels: int, channels: int, **layer: Any) -> None:
        super().__init__()
        self.interp_upsample = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear"), ConvModule(in_channels, channels, 1, **layer)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.interp_upsample(x)


class UpConvBlock(nn.Module):
    """A decoder step; ``larger``: the skip has twice the size of the deeper feature."""

    def __init__(self, channels: int, larger: bool, gated: bool, **layer: Any) -> None:
        super().__init__()
        self.conv_block = nn.Module()
        self.conv_block.convs = nn.Sequential(
            ConvModule(2 * channels, channels, 3, padding=1, bias=True, **layer),
            ConvModule(channels, channels, 3, padding=1, bias=True, **layer),
        )
        if gated:
            self.MultiAttentionBlock2D = MultiAttentionBlock(channels)
        if larger:
            self.upsample = InterpConv(2 * channels, channels, **layer)
        else:
            self.upsample = ConvModule(2 * channels, channels, 1, bias=True, **layer)

    def forward(self, skip: Tensor, x: Tensor) -> Tensor:
        if hasattr(self, "MultiAttentionBlock2D"):
            skip = self.MultiAttentionBlock2D(skip, x)
        return self.conv_block.convs(torch.cat([skip, self.upsample(x)], 1))


class UNetNeck(nn.Module):
    def __init__(self, gated: bool, **layer: Any) -> None:
        super().__init__()
        self.decoder = nn.ModuleList(UpConvBlock(64 * 2**i, i == 0, gated, **layer) for i in range(3))

    def forward(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        outputs = [features[-1]]
        for i in reversed(range(3)):
            outputs.append(self.decoder[i](features[i], outputs[-1]))
        return outputs


class EncoderDecoder(nn.Module):
    """``kind``: fcn, unet or attn_unet, each with ResNet-V1c-18 and its auxiliary head."""

    def __init__(self, kind: str, norm: str = "BN") -> None:
        super().__init__()
        norm_cfg = dict(type=norm)
        self.backbone = ResNetV1c(
            depth=18, dilations=(1, 1, 2, 4), strides=(1, 2, 1, 1), contract_dilation=True, norm_cfg=norm_cfg
        )
        if kind == "fcn":
            self.decode_head = _head(512, 128, 3, num_convs=2, norm_cfg=norm_cfg)
            self.auxiliary_head = _head(256, 256, 2, num_convs=1, concat_input=False, norm_cfg=norm_cfg)
        else:
            self.neck = UNetNeck(kind == "attn_unet", norm_cfg=norm_cfg)
            self.decode_head = _head(64, 64, 3, num_convs=0, concat_input=False, norm_cfg=norm_cfg)
            self.auxiliary_head = _head(256, 256, 1, num_convs=0, concat_input=False, norm_cfg=norm_cfg)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Main and auxiliary logits of (N, 3, H, W)."""
        features = self.backbone(x)
        if hasattr(self, "neck"):
            features = self.neck(features)
        return self.decode_head(features), self.auxiliary_head(features)


def trained(kind: str, norm: str = "BN") -> EncoderDecoder:
    """A network whose biases and running statistics are not those of a new one; without dropout."""
    torch.manual_seed(0)
    net = EncoderDecoder(kind, norm)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
        elif isinstance(module, nn.Dropout2d):
            module.p = 0.0
        if isinstance(getattr(module, "bias", None), Tensor):
            nn.init.normal_(module.bias, 0, 0.3)
    return net.eval()


def _head(in_channels: int, channels: int, in_index: int, **kwargs: Any) -> FCNHead:
    return FCNHead(in_channels=in_channels, channels=channels, in_index=in_index, num_classes=9, **kwargs)
