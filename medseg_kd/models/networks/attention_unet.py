"""Attention U-Net on a ResNet encoder."""

from typing import Any

import torch
from torch import Tensor

from medseg_kd.errors import UserError
from medseg_kd.models.networks.attention_gate import MultiAttentionGate
from medseg_kd.models.networks.unet import UNet, UpBlock
from medseg_kd.registry import MODELS


class GatedUpBlock(UpBlock):
    """A decoder step whose skip passes an attention gate; the deeper feature is the gating signal.

    Arguments are those of :class:`UpBlock`.
    """

    def __init__(self, in_channels: int, skip_channels: int, norm_cfg: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(in_channels, skip_channels, norm_cfg, **kwargs)
        self.gate = MultiAttentionGate(skip_channels, in_channels, norm_cfg)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Fuse (N, in_channels, h, w) with the gated skip (N, skip_channels, H, W)."""
        return super().forward(x, self.gate(skip, x))


@MODELS.register_module()
class AttentionUNet(UNet):
    """Attention U-Net (Oktay et al., MIDL 2018): a :class:`UNet` with a multi-attention gate at each skip.

    Arguments are those of :class:`UNet`.
    """

    block = GatedUpBlock

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """As :meth:`UNet.forward`; the deepest skip must have 2x2 pixels for its gate to subsample.

        Raises:
            UserError: The input is smaller.
        """
        deepest = self.feature_info[-2]["reduction"]
        if not torch.compiler.is_compiling() and min(x.shape[-2:]) <= deepest:
            raise UserError(
                f"{type(self).__name__} takes heights and widths above {deepest}, but got "
                f"{x.shape[-2]}x{x.shape[-1]}. Resize the slices (data_preprocessor.size)"
            )
        return super().forward(x)
