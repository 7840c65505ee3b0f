"""Random rotation and flip of a whole batch on its device."""

import torch
import torch.nn.functional as F
from mmengine.dist import get_dist_info
from torch import Tensor, nn

from medseg_kd.registry import MODELS


@MODELS.register_module()
class RandomRotateFlip(nn.Module):
    """The augmentation of TransUNet (Chen et al., 2021; its ``RandomGenerator``), one draw a slice.

    With ``flip_prob``: a rotation by a random multiple of 90 degrees (180 when the slice is not square), then a flip
    along a random axis. Else with ``rotate_prob``: a rotation by an angle within ``degree``, image bilinear, label
    nearest, what comes in from outside is 0 (air, background).

    Args:
        rotate_prob: Probability of the free rotation, given no flip.
        flip_prob: Probability of the right-angle rotation and flip.
        degree: Largest angle, in degrees.

    Attributes:
        shared_seed: Of the draws of all processes, which are those of one process with their whole batch;
            :class:`~medseg_kd.engine.IterationSeedHook` sets it. None: from PyTorch's global CPU generator.
    """

    def __init__(self, rotate_prob: float = 0.5, flip_prob: float = 0.5, degree: float = 20.0) -> None:
        super().__init__()
        self.rotate_prob = rotate_prob
        self.flip_prob = flip_prob
        self.degree = degree
        self.shared_seed: int | None = None

    def views(self, square: bool) -> list[tuple[int, bool]]:
        """What training shows of a slice at right angles: (quarter turns, then mirrored left to right), each a flip."""
        turns = range(4) if square else (0, 2)
        return [(each, True) for each in turns] if self.flip_prob > 0 else []

    @torch.no_grad()
    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Augment (N, C, H, W) images and their (N, H, W) labels alike, in float32 whatever autocast says."""
        height, width = labels.shape[-2:]
        plan = self._plan(len(images), square=height == width)
        # Pinned, or the copy to a GPU would wait for it.
        plan = (plan.pin_memory() if images.is_cuda else plan).to(images.device, non_blocking=True)
        free, turns = plan[:, 4].bool(), plan[:, :4, None, None]
        with torch.autocast(images.device.type, enabled=False):
            # Where each pixel comes from, in pixels: exact for right angles, as offsets from the centre are halves.
            x = torch.arange(width, device=images.device) - (width - 1) / 2
            y = torch.arange(height, device=images.device)[:, None] - (height - 1) / 2
            source_x = turns[:, 0] * x + turns[:, 1] * y + (width - 1) / 2
            source_y = turns[:, 2] * x + turns[:, 3] * y + (height - 1) / 2
            column, row = source_x.round(), source_y.round()
            outside = ((column < 0) | (column >= width) | (row < 0) | (row >= height)).flatten(1)
            nearest = (row * width + column).long().flatten(1).masked_fill(outside, 0)
            moved = images.flatten(2).gather(2, nearest[:, None].expand(-1, images.shape[1], -1)).view_as(images)
            grid = torch.stack(((2 * source_x + 1) / width - 1, (2 * source_y + 1) / height - 1), dim=-1)
            turned = F.grid_sample(images.float(), grid, mode="bilinear", align_corners=False).to(images.dtype)
        labels = labels.flatten(1).gather(1, nearest).masked_fill(outside, 0).view_as(labels)
        return torch.where(free[:, None, None, None], turned, moved), labels

    def _plan(self, count: int, square: bool) -> Tensor:
        """Draw what happens to each slice, on the CPU.

        Returns:
            (N, 5) float32: the matrix from an output pixel's place to its source's, (x, y) from the slice's centre, row
            by row; and whether it is a free rotation.
        """
        if self.shared_seed is None:
            draws = torch.rand(count, 5)
        else:
            rank, processes = get_dist_info()
            generator = torch.Generator().manual_seed(self.shared_seed)
            draws = torch.rand(count * processes, 5, generator=generator)[rank::processes]  # as the sampler takes turns
        flip, turns, axis, rotate, angle = draws.double().unbind(1)
        flipped = flip < self.flip_prob
        free = ~flipped & (rotate < self.rotate_prob)
        right_angle = (turns * 4).floor() * 90 if square else (turns * 2).floor() * 180
        degrees = torch.where(flipped, right_angle, (2 * angle - 1) * self.degree * free)
        cos, sin = degrees.deg2rad().cos(), degrees.deg2rad().sin()
        along_x = 1 - 2 * (flipped & (axis < 0.5)).double()
        along_y = 1 - 2 * (flipped & (axis >= 0.5)).double()
        return torch.stack((cos * along_x, -sin * along_y, sin * along_x, cos * along_y, free), dim=1).float()
