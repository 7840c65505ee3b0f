"""Small segmentors and batches for the tests of distillation."""

from typing import Any

import torch
from torch import Tensor, nn

from medseg_kd.models import FCN, Segmentor, UNet


def resnet(width: int, in_channels: int = 1) -> dict[str, Any]:
    return {
        "type": "mmseg.ResNetV1c",
        "depth": 18,
        "in_channels": in_channels,
        "base_channels": width,
        "stem_channels": 4,
        "dilations": (1, 1, 2, 4),
        "strides": (1, 2, 1, 1),
        "contract_dilation": True,
    }


def segmentor(
    network: type = UNet, width: int = 4, num_classes: int = 4, in_channels: int = 1, **options: Any
) -> dict[str, Any]:
    """Config of a ResNet-18 segmentor with an auxiliary head; its stages have 1, 2, 4, 8 times ``width`` channels."""
    if network is FCN:
        options.setdefault("channels", 8)
        options.setdefault("auxiliary_channels", 8)
    return {
        "type": Segmentor,
        "network": {"type": network, "backbone": resnet(width, in_channels), **options},
        "num_classes": num_classes,
        "in_channels": in_channels,
        "losses": [{"type": "mmseg.CrossEntropyLoss"}],
        "output_weights": (1, 0.4),
    }


class Plain(nn.Module):
    """A network that tells nothing of itself: two convolutions at full resolution, the second called twice."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.dropout = nn.Dropout(0.5)
        self.second = nn.Conv2d(4, 4, 1)
        self.last = nn.Conv2d(4, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.second(self.dropout(self.first(x)))))


def plain(num_classes: int = 4, **options: Any) -> dict[str, Any]:
    """Config of a segmentor around :class:`Plain`."""
    losses = [{"type": "mmseg.CrossEntropyLoss"}]
    return {"type": Segmentor, "network": Plain(num_classes), "num_classes": num_classes, "losses": losses, **options}


def encoder_decoder(width: int = 4, in_channels: int = 1) -> dict[str, Any]:
    """Config of a model of MMSegmentation with an auxiliary head, four classes."""
    heads = [
        {"type": "mmseg.FCNHead", "num_classes": 4, "in_channels": channels * width, "channels": 8, "in_index": index}
        for index, channels in ((3, 8), (2, 4))
    ]
    return {
        "type": "mmseg.EncoderDecoder",
        "backbone": resnet(width, in_channels),
        "decode_head": heads[0],
        "auxiliary_head": heads[1],
    }


def batch(size: tuple[int, int] = (32, 32), n: int = 2, channels: int = 1) -> tuple[Tensor, Tensor]:
    """Images (n, channels, H, W) and their labels (n, H, W) uint8, four classes."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (n, *size), generator=rng, dtype=torch.uint8)
    return torch.rand(n, channels, *size, generator=rng), labels
