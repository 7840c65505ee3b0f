"""ResNet encoders of MMSegmentation: how a network builds one, what they say of their stages, one for small slices."""

from collections.abc import Mapping
from typing import Any

from mmseg.models.backbones import ResNet, ResNetV1c
from torch import nn

from medseg_kd.errors import UserError
from medseg_kd.registry import MODELS


@MODELS.register_module()
class FineResNetV1c(ResNetV1c):
    """ResNet-V1c without max pooling: the stem reduces by 2, so that small organs of small slices keep their pixels.

    Its parameters are those of ResNet-V1c, which its weights fit.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.maxpool = nn.Identity()


def build_resnet(config: Mapping[str, Any], in_channels: int | None) -> tuple[ResNet, int]:
    """Build the encoder of a network.

    Args:
        config: Of an MMSegmentation ResNet.
        in_channels: Channels of the image, for a config that does not say them; None leaves them to the config, or to
            the ResNet's own default of 3.

    Returns:
        The ResNet, and the channels of the image that it takes.

    Raises:
        UserError: Both say different numbers.
    """
    said = config.get("in_channels")
    if None not in (said, in_channels) and said != in_channels:
        raise UserError(
            f"model.network.backbone.in_channels is {said}, but model.network.in_channels is {in_channels} (it follows "
            "model.in_channels where the config does not say it). Leave the backbone's out, or make the two agree"
        )
    filled = {} if in_channels is None else {"in_channels": in_channels}
    backbone = MODELS.build({**config, **filled})
    stem = backbone.stem[0] if backbone.deep_stem else backbone.conv1
    return backbone, stem.in_channels


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
