"""Small segmentors and batches that the tests of segmentors share."""

import torch
from mmseg.models.losses import CrossEntropyLoss
from monai.networks.nets import BasicUNet
from torch import Tensor, nn

from medseg_kd.models import Segmentor, SoftDiceLoss
from medseg_kd.registry import MODELS

CLASSES = 4
LOSSES = [dict(type=CrossEntropyLoss, avg_non_ignore=True), dict(type=SoftDiceLoss)]
MONAI = dict(type=BasicUNet, spatial_dims=2, features=(4, 4, 8, 8, 8, 4))
BACKBONE = dict(
    type="mmseg.ResNetV1c",
    depth=18,
    in_channels=1,
    base_channels=4,
    stem_channels=4,
    dilations=(1, 1, 2, 4),
    strides=(1, 2, 1, 1),
    contract_dilation=True,
)


class Pointwise(nn.Module):
    """Logits of each pixel from that pixel alone, of every second when ``reduction`` is 2; keeps the sizes it saw."""

    def __init__(self, num_classes: int, in_channels: int, outputs: int = 1, reduction: int = 1) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Conv2d(in_channels, num_classes, 1) for _ in range(outputs))
        self.reduction = reduction
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        self.sizes.append(tuple(x.shape))
        x = x[..., :: self.reduction, :: self.reduction]
        return [head(x) for head in self.heads] if self.training and len(self.heads) > 1 else self.heads[0](x)


def build(network: dict | nn.Module | None = None, **options) -> Segmentor:
    torch.manual_seed(0)
    options = {"num_classes": CLASSES, "losses": LOSSES, **options}
    return MODELS.build(dict(type=Segmentor, network=network or dict(type=Pointwise), **options))


def batch(size: tuple[int, int] = (12, 10), n: int = 2) -> tuple[Tensor, Tensor]:
    """Slices (n, 1, H, W) and their labels (n, H, W), uint8."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (n, *size), generator=rng).to(torch.uint8)
    return torch.rand(n, 1, *size, generator=rng), labels
