"""The multi-attention gate of Attention U-Net."""

from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule, build_norm_layer
from torch import Tensor, nn


class MultiAttentionGate(nn.Module):
    """Additive attention gates on a skip, joined by a 1x1 convolution (Schlemper et al., MedIA 2019).

    Each gate computes, from the skip x and the gating signal g (Oktay et al., MIDL 2018, equations 1 and 2),

        a = sigmoid(psi^T relu(theta^T x + phi^T g)),    y = norm(W^T (a x)),

    on a grid that ``theta`` subsamples; phi^T g is resized to it, and ``a`` back to the skip, bilinearly. The y of all
    gates pass a 1x1 convolution, normalisation and ReLU. This is the authors' ``MultiAttentionBlock`` in mode
    ``concatenation`` for 2D, with their initial weights. The gates share each convolution: the channels of the first
    come first. ``W`` is applied before the multiplication with ``a``, a scalar at each pixel; its bias and that of
    the joining convolution, which the normalisation takes out again, are left away.

    Args:
        in_channels: Channels of the skip and of the output.
        gating_channels: Channels of the gating signal.
        norm_cfg: Normalisation.
        inter_channels: Channels that a gate adds in; None: those of the skip.
        gates: Number of gates.
        subsample: Kernel and stride of ``theta``.
    """

    def __init__(
        self,
        in_channels: int,
        gating_channels: int,
        norm_cfg: dict[str, Any] | None = None,
        inter_channels: int | None = None,
        gates: int = 2,
        subsample: int = 2,
    ) -> None:
        super().__init__()
        norm_cfg = norm_cfg or {"type": "BN"}
        inter_channels = inter_channels or in_channels
        self.theta = nn.Conv2d(in_channels, gates * inter_channels, subsample, stride=subsample, bias=False)
        self.phi = nn.Conv2d(gating_channels, gates * inter_channels, 1)
        self.psi = nn.Conv2d(gates * inter_channels, gates, 1, groups=gates)
        self.W = nn.Conv2d(in_channels, gates * in_channels, 1, bias=False)
        self.norm = build_norm_layer(norm_cfg, gates * in_channels)[1]
        self.combine = ConvModule(gates * in_channels, in_channels, 1, norm_cfg=norm_cfg)
        self.init_weights()

    def init_weights(self) -> None:
        """The authors' initial weights: He et al.'s for ``fan_in``, scales of the normalisation from N(1, 0.02^2)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(scale := getattr(module, "weight", None), Tensor):
                nn.init.normal_(scale, 1.0, 0.02)

    def attention(self, x: Tensor, gating: Tensor) -> Tensor:
        """Attention maps (N, gates, H, W) in (0, 1); arguments are those of :meth:`forward`."""
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
