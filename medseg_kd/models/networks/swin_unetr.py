"""Swin-UNETR: MONAI's network around an encoder that compiles and exports for every size."""

import copy
from collections.abc import Sequence

from mmengine.model import BaseModule
from monai.networks.nets import SwinUNETR as MonaiSwinUNETR
from torch import Tensor, nn

from medseg_kd.errors import UserError
from medseg_kd.models.networks.swin_encoder import SwinEncoder
from medseg_kd.models.padding import check_divisible
from medseg_kd.registry import MODELS


@MODELS.register_module()
class SwinUNETR(MonaiSwinUNETR, BaseModule):
    """Swin UNETR (Hatamizadeh et al., BrainLes 2021, arXiv:2201.01266) in two dimensions.

    It is MONAI's network, equal in its parameters' names and in its logits; the encoder's forward pass and the size
    check are written anew, see :class:`SwinEncoder`. The stages in ``feature_info`` are the maps that the decoder
    takes: the patch embedding and the output of each stage, normalised over the channels.

    Args:
        num_classes: Classes with background.
        in_channels: Channels of the image.
        feature_size: Channels of the patch embedding, a multiple of 12; each of the four stages doubles them.
        depths: Blocks of each stage.
        num_heads: Attention heads of each stage.
        window_size: Side of an attention window in tokens.
        drop_rate: Dropout of the patch embedding and after the projections.
        attn_drop_rate: Dropout of the attention.
        drop_path_rate: Chance that a residual is left out in the last block; it grows linearly from 0.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 1,
        feature_size: int = 48,
        depths: Sequence[int] = (2, 2, 2, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(in_channels, num_classes, feature_size=feature_size, spatial_dims=2)
        self.init_cfg = copy.deepcopy(init_cfg)
        self.swinViT = SwinEncoder(
            in_channels, feature_size, depths, num_heads, window_size, drop_rate, attn_drop_rate, drop_path_rate
        )
        _normalise_by_groups(self)
        self.size_divisor = 32
        self.feature_info = [
            {"module": f"swinViT.maps.{index}", "channels": feature_size * 2**index, "reduction": 2 ** (index + 1)}
            for index in range(5)
        ]

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W), both multiples of 32, to logits (N, C, H, W).

        Raises:
            UserError: The network does not take that size.
        """
        check_divisible(x, self.size_divisor, type(self).__name__)
        if x.shape[-2] * x.shape[-1] == self.size_divisor**2:
            raise UserError(
                "SwinUNETR cannot normalise the single value a channel that its deepest map has of a 32x32 input; the "
                "smallest sizes are 32x64 and 64x32"
            )
        return super().forward(x)

    def _check_input_size(self, spatial_shape: Sequence[int]) -> None:
        """MONAI's check breaks a compiled graph; :meth:`forward` has checked."""


def _normalise_by_groups(net: nn.Module) -> None:
    """Write instance norms as group norms of one channel a group.

    They give the same, but PyTorch's instance norm returns a view, which the in-place activations after it make
    autograd copy.
    """
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.InstanceNorm2d):
            channels = module.num_features
            net.set_submodule(name, nn.GroupNorm(channels, channels, module.eps, affine=module.affine))
