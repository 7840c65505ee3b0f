"""Small segmentors and batches for the tests of distillation."""

from typing import Any

import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from medseg_kd.models import FCN, Segmentor, UNet


def resnet(width: int) -> dict[str, Any]:
    return {
        "type": "mmseg.ResNetV1c",
        "depth": 18,
        "in_channels": 1,
        "base_channels": width,
        "stem_channels": 4,
        "dilations": (1, 1, 2, 4),
        "strides": (1, 2, 1, 1),
        "contract_dilation": True,
    }


def segmentor(network: type = UNet, width: int = 4, num_classes: int = 4, **options: Any) -> dict[str, Any]:
    """Config of a ResNet-18 segmentor with an auxiliary head; its stages have 1, 2, 4, 8 times ``width`` channels."""
    if network is FCN:
        options.setdefault("channels", 8)
        options.setdefault("auxiliary_channels", 8)
    return {
        "type": Segmentor,
        "network": {"type": network, "backbone": resnet(width), **options},
        "num_classes": num_classes,
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


def batch(size: tuple[int, int] = (32, 32), n: int = 2) -> tuple[Tensor, list[SegDataSample]]:
    """Images (n, 1, H, W) and their samples, four classes."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (n, 1, *size), generator=rng)
    return torch.rand(n, 1, *size, generator=rng), [SegDataSample(gt_sem_seg=PixelData(data=one)) for one in labels]
