"""FCN on a dilated ResNet."""

from typing import Any

from medseg_kd.models.networks.resnet import LogitsHead, NetworkOnResNet
from medseg_kd.registry import MODELS


@MODELS.register_module()
class FCN(NetworkOnResNet):
    """Fully convolutional network (Long et al., CVPR 2015) with MMSegmentation's FCN head; logits (N, C, H/8, W/8).

    Two 3x3 convolutions on the deepest stage, a third on their concatenation with that stage, a classifier. In
    training an auxiliary head (one 3x3 convolution, a classifier) on the stage before it gives a second output.

    Args:
        backbone: Config of an MMSegmentation ResNet.
        in_channels: Channels of the image; None leaves them to the backbone's config.
        channels: Width of the head.
        auxiliary_channels: Width of the auxiliary head; None leaves it out.
        norm_cfg: Normalisation of the heads.
        dropout_ratio: Channel dropout before each classifier.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        num_classes: int,
        in_channels: int | None = None,
        channels: int = 512,
        auxiliary_channels: int | None = 256,
        norm_cfg: dict[str, Any] | None = None,
        dropout_ratio: float = 0.1,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(backbone, in_channels, init_cfg)
        *_, before, deepest = (stage["channels"] for stage in self.feature_info)
        shared = dict(num_classes=num_classes, norm_cfg=norm_cfg or {"type": "BN"}, dropout_ratio=dropout_ratio)
        self.head = LogitsHead(in_channels=deepest, channels=channels, in_index=-1, num_convs=2, **shared)
        second = dict(in_channels=before, channels=auxiliary_channels, in_index=-2, num_convs=1, concat_input=False)
        self.auxiliary_head = LogitsHead(**second, **shared) if auxiliary_channels else None
