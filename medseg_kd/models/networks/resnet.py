"""ResNet encoders of MMSegmentation: what they say of their stages, and one for small slices."""

from typing import Any

from mmseg.models.backbones import ResNet, ResNetV1c
from torch import nn

from medseg_kd.registry import MODELS


@MODELS.register_module()
class FineResNetV1c(ResNetV1c):
    """ResNet-V1c without max pooling: the stem reduces by 2, so that small organs of small slices keep their pixels.

    Its parameters are those of ResNet-V1c, which its weights fit.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.maxpool = nn.Identity()


def resnet_feature_info(backbone: ResNet, prefix: str = "backbone") -> list[dict[str, Any]]:
    """Stages of a ResNet, shallow to deep, in the manner of timm's ``feature_info``.

    Args:
        backbone: An MMSegmentation ResNet (any variant).
        prefix: Its name inside the network.

    Returns:
        One ``dict(module, channels, reduction)`` a stage: module path, output channels, input size over output size.
        The stem reduces by 4 (by 2 without max pooling), each stage by its stride.
    """
    info: list[dict[str, Any]] = []
    reduction = 2 if isinstance(backbone, FineResNetV1c) else 4
    for index, (layer, stride) in enumerate(zip(backbone.res_layers, backbone.strides, strict=True)):
        reduction *= stride
        channels = backbone.base_channels * 2**index * backbone.block.expansion
        info.append({"module": f"{prefix}.{layer}", "channels": channels, "reduction": reduction})
    return info
