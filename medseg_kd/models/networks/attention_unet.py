"""Attention U-Net on a ResNet encoder, with the multi-attention gate."""

from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule, build_norm_layer
from torch import Tensor, nn

from medseg_kd.errors import UserError
from medseg_kd.models.networks.unet import UNet, UpBlock
from medseg_kd.registry import MODELS


class MultiAttentionGate(nn.Module):
    """Additive attention gates on a skip, joined by a 1x1 convolution (Schlemper et al., MedIA 2019).

    Each gate computes, from the skip x and the gating signal g (Oktay et al., MIDL 2018, equations 1 and 2),

        a = sigmoid(psi^T relu(theta^T x + phi^T g)),    y = norm(W^T (a x)),

    on a grid that ``theta`` subsamples by 2; phi^T g is resized to it, and ``a`` back to the skip, bilinearly. The y of
    both gates pass a 1x1 convolution, normalisation and ReLU. This is the authors' ``MultiAttentionBlock`` in mode
    ``concatenation`` for 2D, with their initial weights. The gates share each convolution: the channels of the first
    come first. ``W`` is applied before the multiplication with ``a``, a scalar at each pixel; its bias and that of
    the joining convolution, which the normalisation takes out again, are left away.
    """

    def __init__(self, in_channels: int, gating_channels: int, norm_cfg: dict[str, Any]) -> None:
        super().__init__()
        self.theta = nn.Conv2d(in_channels, 2 * in_channels, 2, stride=2, bias=False)
        self.phi = nn.Conv2d(gating_channels, 2 * in_channels, 1)
        self.psi = nn.Conv2d(2 * in_channels, 2, 1, groups=2)
        self.W = nn.Conv2d(in_channels, 2 * in_channels, 1, bias=False)
        self.norm = build_norm_layer(norm_cfg, 2 * in_channels)[1]
        self.combine = ConvModule(2 * in_channels, in_channels, 1, norm_cfg=norm_cfg)
        self.init_weights()

    def init_weights(self) -> None:
        """The authors' initial weights: He et al.'s for ``fan_in``, scales of the normalisation from N(1, 0.02^2)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(scale := getattr(module, "weight", None), Tensor):
                nn.init.normal_(scale, 1.0, 0.02)

    def attention(self, x: Tensor, gating: Tensor) -> Tensor:
        """Attention maps (N, 2, H, W) in (0, 1); arguments are those of :meth:`forward`."""
        theta = self.theta(x)
        phi = F.interpolate(self.phi(gating), size=theta.shape[-2:], mode="bilinear", align_corners=False)
        attention = self.psi(F.relu(theta + phi)).sigmoid()
        return F.interpolate(attention, size=x.shape[-2:], mode="bilinear", align_corners=False)

    def forward(self, x: Tensor, gating: Tensor) -> Tensor:
        """Gate the skip (N, in_channels, H, W) with (N, gating_channels, h, w) of any size."""
        maps = self.attention(x, gating).split(1, dim=1)
        values = self.W(x).split(x.shape[1], dim=1)
        gated = torch.cat([a * value for a, value in zip(maps, values, strict=True)], dim=1)
        return self.combine(self.norm(gated))


class GatedUpBlock(UpBlock):
    """A :class:`UpBlock` whose skip passes an attention gate; the deeper feature is the gating signal."""

    def __init__(self, in_channels: int, skip_channels: int, num_convs: int, **layer: Any) -> None:
        super().__init__(in_channels, skip_channels, num_convs, **layer)
        self.gate = MultiAttentionGate(skip_channels, in_channels, layer["norm_cfg"])

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Fuse (N, in_channels, h, w) with the gated skip (N, skip_channels, H, W)."""
        return super().forward(x, self.gate(skip, x))


@MODELS.register_module()
class AttentionUNet(UNet):
    """Attention U-Net (Oktay et al., MIDL 2018): a :class:`UNet`, arguments too, with a gate at each skip."""

    block = GatedUpBlock

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """As :class:`UNet`; the deepest skip must have 2x2 pixels for its gate to subsample.

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
