"""What FCN and the U-Nets share: a ResNet of MMSegmentation below, its FCN heads above."""

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from mmseg.models.backbones import ResNetV1c
from mmseg.models.decode_heads import FCNHead
from mmseg.models.losses import CrossEntropyLoss
from torch import Tensor, nn

from medseg_kd.errors import UserError
from medseg_kd.models.networks.input_check import check_input
from medseg_kd.registry import MODELS


@MODELS.register_module()
class FineResNetV1c(ResNetV1c):
    """ResNet-V1c without max pooling: the stem reduces by 2, so that small organs of small slices keep their pixels.

    Its parameters are those of ResNet-V1c, which its weights fit.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.maxpool = nn.Identity()


class LogitsHead(FCNHead):
    """Maps a list of features to logits; the segmentor has the losses, so the head keeps none.

    The classifier starts from PyTorch's initialisation. MMSegmentation draws it from N(0, 0.01^2): where organs are a
    thousandth of the pixels, all logits then fall to background before the features tell organs apart, and training
    stands still for hundreds of iterations.

    Arguments are those of MMSegmentation's ``FCNHead`` without ``loss_decode``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(loss_decode=dict(type=CrossEntropyLoss, avg_non_ignore=True), init_cfg=None, **kwargs)
        del self.loss_decode


class NetworkOnResNet(BaseModule):
    """A ResNet and what a subclass adds: ``head``, and an ``auxiliary_head`` or None, on the maps of :meth:`features`.

    Args:
        backbone: Config of an MMSegmentation ResNet.
        in_channels: Channels of the image, for a config that does not say them; None leaves them to the config, or to
            the ResNet's own default of 3.

    Raises:
        UserError: Both say different numbers of channels.
    """

    head: LogitsHead
    auxiliary_head: LogitsHead | None

    def __init__(self, backbone: dict[str, Any], in_channels: int | None, init_cfg: dict | list[dict] | None) -> None:
        super().__init__(init_cfg)
        said = backbone.get("in_channels")
        if None not in (said, in_channels) and said != in_channels:
            raise UserError(
                f"model.network.backbone.in_channels is {said}, but model.network.in_channels is {in_channels} (it "
                "follows model.in_channels where the config does not say it). Leave the backbone's out, or make the "
                "two agree"
            )
        net = MODELS.build(backbone if in_channels is None else {**backbone, "in_channels": in_channels})
        self.backbone = net
        self.in_channels = (net.stem[0] if net.deep_stem else net.conv1).in_channels
        self.feature_info: list[dict[str, Any]] = []
        reduction = 2 if isinstance(net, FineResNetV1c) else 4
        for index, (layer, stride) in enumerate(zip(net.res_layers, net.strides, strict=True)):
            reduction *= stride
            channels = net.base_channels * 2**index * net.block.expansion
            self.feature_info.append({"module": f"backbone.{layer}", "channels": channels, "reduction": reduction})

    def features(self, x: Tensor) -> Sequence[Tensor]:
        """Maps of (N, in_channels, H, W): those of the ResNet's stages, shallow to deep."""
        return self.backbone(x)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map (N, in_channels, H, W) to logits (N, C, h, w), sized as the head's map; in training also auxiliary."""
        check_input(self, x)
        features = self.features(x)
        logits = self.head(features)
        if self.training and self.auxiliary_head is not None:
            return logits, self.auxiliary_head(features)
        return logits
