"""What a ResNet encoder of MMSegmentation says of its stages."""

from typing import Any

from mmseg.models.backbones import ResNet


def resnet_feature_info(backbone: ResNet, prefix: str = "backbone") -> list[dict[str, Any]]:
    """Stages of a ResNet, shallow to deep, in the manner of timm's ``feature_info``.

    Args:
        backbone: An MMSegmentation ResNet (any variant).
        prefix: Its name inside the network.

    Returns:
        One ``dict(module, channels, reduction)`` a stage: module path, output channels, input size over output size.
        The stem reduces by 4, each stage by its stride.
    """
    info: list[dict[str, Any]] = []
    reduction = 4
    for index, (layer, stride) in enumerate(zip(backbone.res_layers, backbone.strides, strict=True)):
        reduction *= stride
        channels = backbone.base_channels * 2**index * backbone.block.expansion
        info.append({"module": f"{prefix}.{layer}", "channels": channels, "reduction": reduction})
    return info
