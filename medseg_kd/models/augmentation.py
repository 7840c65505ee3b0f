"""Random rotation and flip of a whole batch on its device."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medseg_kd.registry import MODELS


@MODELS.register_module()
class RandomRotateFlip(nn.Module):
    """The augmentation of TransUNet (Chen et al., 2021; its ``RandomGenerator``), one draw a slice.

    With ``flip_prob``: a rotation by a random multiple of 90 degrees (180 when the slice is not square), then a flip
    along a random axis. Else with ``rotate_prob``: a rotation by an angle within ``degree``, image bilinear, label
    nearest, what comes in from outside is 0 (air, background). The draws come from PyTorch's global CPU generator.

    Args:
        rotate_prob: Probability of the free rotation, given no flip.
        flip_prob: Probability of the right-angle rotation and flip.
        degree: Largest angle, in degrees.
    """

    def __init__(self, rotate_prob: float = 0.5, flip_prob: float = 0.5, degree: float = 20.0) -> None:
        super().__init__()
        self.rotate_prob = rotate_prob
        self.flip_prob = flip_prob
        self.degree = degree

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Augment (N, C, H, W) images and their (N, H, W) labels alike."""
        draws = torch.rand(len(images), 5).tolist()
        pairs = [self._one(image, label, *draw) for image, label, draw in zip(images, labels, draws, strict=True)]
        return torch.stack([image for image, _ in pairs]), torch.stack([label for _, label in pairs])

    def _one(
        self,
        image: Tensor,
        label: Tensor,
        flip: float,
        turns: float,
        axis: float,
        rotate: float,
        angle: float,
    ) -> tuple[Tensor, Tensor]:
        """Augment one (C, H, W) image and (H, W) label with five uniform draws from [0, 1)."""
        if flip < self.flip_prob:
            quarter_turns = int(turns * 4) if label.shape[0] == label.shape[1] else 2 * int(turns * 2)
            along = -1 - int(axis * 2)
            image = image.rot90(quarter_turns, (-2, -1)).flip(along)
            label = label.rot90(quarter_turns, (-2, -1)).flip(along)
        elif rotate < self.rotate_prob:
            radians = math.radians((2 * angle - 1) * self.degree)
            image = _rotate(image, radians, "bilinear")
            label = _rotate(label[None].float(), radians, "nearest")[0].to(label.dtype)
        return image, label


def _rotate(x: Tensor, radians: float, mode: str) -> Tensor:
    """Rotate (C, H, W) about its centre; the pixel grid is isotropic also where H and W differ."""
    height, width = x.shape[-2:]
    cos, sin = math.cos(radians), math.sin(radians)
    theta = x.new_tensor([[[cos, -sin * height / width, 0], [sin * width / height, cos, 0]]])
    grid = F.affine_grid(theta, [1, *x.shape], align_corners=False)
    return F.grid_sample(x[None], grid, mode=mode, align_corners=False)[0]
