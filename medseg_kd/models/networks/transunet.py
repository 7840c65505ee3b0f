"""TransUNet."""

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn

from medseg_kd.models.checkpoint import load_weights, read_checkpoint
from medseg_kd.models.networks.input_check import check_input
from medseg_kd.models.networks.resnet_v2 import ResNetV2
from medseg_kd.models.networks.vit import VisionTransformer, resize_grid
from medseg_kd.models.weights.stem import fit_stem
from medseg_kd.models.weights.vit_npz import read_encoder
from medseg_kd.registry import MODELS


class ConvBNReLU(nn.Sequential):
    """3x3 convolution, batch norm, ReLU."""

    def __init__(self, in_channels: int, channels: int) -> None:
        conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        super().__init__(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


class UpBlock(nn.Module):
    """One decoder step: enlarge by 2, concatenate with the skip (of 0 channels where there is none), convolve twice."""

    def __init__(self, in_channels: int, skip_channels: int, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvBNReLU(in_channels + skip_channels, channels)
        self.conv2 = ConvBNReLU(channels, channels)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """Map (N, in_channels, h, w), and the skip (N, skip_channels, 2h, 2w), to (N, channels, 2h, 2w)."""
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        return self.conv2(self.conv1(x if skip is None else torch.cat((x, skip), dim=1)))


class Decoder(nn.Module):
    """A convolution to ``middle_channels``, then a step past each of the skips, deep to shallow, to ``channels``."""

    def __init__(
        self, in_channels: int, skip_channels: tuple[int, ...], middle_channels: int, channels: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.conv_more = ConvBNReLU(in_channels, middle_channels)
        inputs = (middle_channels, *channels[:-1])
        self.blocks = nn.ModuleList(UpBlock(*step) for step in zip(inputs, skip_channels, channels, strict=True))

    def forward(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        """Map (N, in_channels, h, w) and the skips, shallow to deep, to (N, channels[-1], 16h, 16w)."""
        x = self.conv_more(x)
        for block, skip in zip(self.blocks, (*reversed(skips), None), strict=True):
            x = block(x, skip)
        return x


@MODELS.register_module()
class TransUNet(BaseModule):
    """TransUNet (Chen et al., arXiv 2102.04306): a ResNet, a vision transformer on its last map, a U-Net decoder.

    The defaults are the published R50-ViT-B/16 with three skips. ``feature_info`` names what the decoder consumes.

    Args:
        in_channels: Channels of the image. For 1 the filters of the first convolution have three channels all the same
            (:class:`~medseg_kd.models.networks.resnet_v2.GreyStdConv2d`).
        img_size: Input height and width (or both in one number) that the position embedding is made for. Any multiple
            of 16 can be the input; at another size than this the embedding is resized.
        width: Channels of the ResNet's stem.
        depths: Units of the ResNet's three stages.
        hidden_channels: Channels of the transformer's tokens.
        num_layers: Transformer blocks, each with ``num_heads`` and an MLP of ``mlp_channels``.
        dropout: In the transformer.
        middle_channels: Width of the decoder's first convolution.
        decoder_channels: Width of the decoder's four steps, deep to shallow.
    """

    size_divisor = 16

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 1,
        img_size: int | tuple[int, int] = 224,
        width: int = 64,
        depths: tuple[int, int, int] = (3, 4, 9),
        hidden_channels: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        mlp_channels: int = 3072,
        dropout: float = 0.1,
        middle_channels: int = 512,
        decoder_channels: tuple[int, int, int, int] = (256, 128, 64, 16),
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.in_channels = in_channels
        rows, columns = (img_size, img_size) if isinstance(img_size, int) else img_size
        self.resnet = ResNetV2(in_channels, width, depths)
        self.vit = VisionTransformer(
            16 * width, hidden_channels, num_layers, num_heads, mlp_channels, (rows // 16, columns // 16), dropout
        )
        self.decoder = Decoder(hidden_channels, (8 * width, 4 * width, width, 0), middle_channels, decoder_channels)
        self.head = nn.Conv2d(decoder_channels[-1], num_classes, 3, padding=1)
        self.feature_info = [
            {"module": "resnet.root", "channels": width, "reduction": 2},
            {"module": "resnet.block1_padded", "channels": 4 * width, "reduction": 4},
            {"module": "resnet.block2", "channels": 8 * width, "reduction": 8},
            {"module": "vit", "channels": hidden_channels, "reduction": 16},
        ]

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W), H and W multiples of 16, to logits (N, num_classes, H, W)."""
        check_input(self, x)
        x, skips = self.resnet(x)
        return self.head(self.decoder(self.vit(x), skips))

    def load_pretrained(self, checkpoint: str) -> None:
        """Take weights to start training from: ``init_cfg=dict(type="Pretrained", checkpoint=...)``.

        Google's ``R50+ViT-B_16.npz`` goes to the encoder, its position embedding resized once to the network's grid.
        Any other name is read as a checkpoint of a whole network, whose grid the position embedding takes. Either way
        filters of RGB images are fitted to other numbers of channels
        (:func:`~medseg_kd.models.weights.stem.fit_stem`).

        Raises:
            UserError: The file cannot be read, or a weight is missing, left over or of another shape.
        """
        if not checkpoint.endswith(".npz"):
            saved = read_checkpoint(checkpoint)["state_dict"]
            weights = {key.removeprefix("network."): value for key, value in saved.items()}
            load_weights(self, fit_stem(weights, self, checkpoint), checkpoint)
            print_log(f"{type(self).__name__} starts from {checkpoint}", "current")
            return
        encoder = {name: value for name, value in self.state_dict().items() if name.startswith(("resnet.", "vit."))}
        weights = fit_stem(read_encoder(checkpoint, encoder, self.vit.num_heads), self, checkpoint)
        grid = "vit.position_embedding.grid"
        given, wanted = weights[grid].shape[-2:], encoder[grid].shape[-2:]
        # In double precision, as the published code resizes.
        weights[grid] = resize_grid(weights[grid].double(), wanted).float()
        self.load_state_dict(weights, strict=False)
        resized = f", its position embedding resized from {given[0]}x{given[1]} to {wanted[0]}x{wanted[1]}"
        print_log(
            f"{type(self).__name__}: the encoder's {len(weights)} weights start from {checkpoint}"
            f"{resized if given != wanted else ''}; the decoder starts from its initialisation",
            "current",
        )
