"""Random rotation and flip of a whole batch on its device, in one resampling."""

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
    def forward(self, images: Tensor, labels: Tensor, soft: Tensor | None = None) -> tuple[Tensor, ...]:
        """Augment (N, C, H, W) images and their (N, H, W) labels alike, in float32 whatever autocast says.

        ``soft`` is (N, K, H, W), moved as the images are, with 0 outside; it comes back as a third tensor.
        """
        matrix, exact = self._plan(len(images), square=labels.shape[-2] == labels.shape[-1])
        return resample(images, labels, matrix, exact, soft=soft)

    def _plan(self, count: int, square: bool) -> tuple[Tensor, Tensor]:
        """Draw what happens to each slice: the first two arguments of :func:`resample` after the slices."""
        flip, turns, axis, rotate, angle = Draws(count, self.shared_seed)(5).double().unbind(1)
        flipped = flip < self.flip_prob
        free = ~flipped & (rotate < self.rotate_prob)
        right_angle = (turns * 4).floor() * 90 if square else (turns * 2).floor() * 180
        degrees = torch.where(flipped, right_angle, (2 * angle - 1) * self.degree * free)
        along = 1 - 2 * torch.stack((flipped & (axis < 0.5), flipped & (axis >= 0.5)), dim=1).double()
        return rotation(degrees) * along[:, None], ~free


class Draws:
    """Random numbers in [0, 1) for each slice of a batch, drawn on the CPU.

    Args:
        count: Slices of this process.
        shared_seed: The numbers are this process's part of those of all processes; None: of the global generator.
    """

    def __init__(self, count: int, shared_seed: int | None) -> None:
        self.count, self.rank, self.processes = count, 0, 1
        self.generator: torch.Generator | None = None
        if shared_seed is not None:
            self.rank, self.processes = get_dist_info()
            self.generator = torch.Generator().manual_seed(shared_seed)

    def __call__(self, *shape: int) -> Tensor:
        """(count, *shape), float32."""
        drawn = torch.rand(self.count * self.processes, *shape, generator=self.generator)
        return drawn[self.rank :: self.processes]  # as the sampler takes turns


def rotation(degrees: Tensor) -> Tensor:
    """(N, 2, 2) matrices that turn (x, y) by (N,) angles."""
    cos, sin = degrees.deg2rad().cos(), degrees.deg2rad().sin()
    return torch.stack((cos, -sin, sin, cos), dim=1).unflatten(1, (2, 2))


def resample(
    images: Tensor,
    labels: Tensor,
    matrix: Tensor,
    exact: Tensor,
    shift: Tensor | None = None,
    bend: Tensor | None = None,
    soft: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Move each slice of a batch, all that happens to it in one step: images bilinear, labels nearest, outside 0.

    What to do is told on the CPU and sent to the slices' device without waiting; nothing is read back.

    Args:
        images: (N, C, H, W).
        labels: (N, H, W) of any type, with values below 2^24.
        matrix: (N, 2, 2), from an output pixel's place to its source's: (x, y) in pixels from the slice's centre.
        exact: (N,) bool: whether pixels come from pixels, so that values stay as they are.
        shift: (N, 2) pixels (x, y) that are added to it.
        bend: (N, 2, k, k) pixels on a coarse grid, corner to corner, that are added after bicubic interpolation.
        soft: (N, K, H, W), moved as the images are.

    Returns:
        Images, labels and, where it is given, ``soft``.
    """
    height, width = labels.shape[-2:]
    half = torch.tensor((width, height), dtype=torch.float64) / 2  # grid_sample's unit
    moved = torch.zeros(len(matrix), 2) if shift is None else shift
    columns = (matrix * half / half[:, None], (moved / half)[..., None], exact[:, None, None].expand(-1, 2, -1))
    along_x, along_y, offset, is_exact = send(torch.cat(columns, dim=2), images.device)[:, None, None].unbind(-1)
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        x = torch.linspace(1 / width - 1, 1 - 1 / width, width, device=images.device)
        y = x if height == width else torch.linspace(1 / height - 1, 1 - 1 / height, height, device=images.device)
        grid = torch.addcmul(torch.addcmul(offset, along_x, x[:, None]), along_y, y[:, None, None])
        if bend is not None:
            bent = F.interpolate(
                send(bend / half[:, None, None], images.device), (height, width), mode="bicubic", align_corners=True
            )
            grid = grid + bent.permute(0, 2, 3, 1)
        # In float32 a pixel's place is exact to a thousandth of it, so that nearest finds the right one.
        labels = _sample(labels[:, None], grid, "nearest")[:, 0]
        planes = images if soft is None else torch.cat((images, soft), dim=1)
        bilinear, nearest = (_sample(planes, grid, mode) for mode in ("bilinear", "nearest"))
    planes = bilinear.lerp(nearest, is_exact[..., :1].to(images.dtype))
    return (planes, labels) if soft is None else (planes[:, : images.shape[1]], labels, planes[:, images.shape[1] :])


def send(drawn: Tensor, device: torch.device) -> Tensor:
    """A small tensor of the CPU on a device, numbers as float32."""
    drawn = drawn.float() if drawn.is_floating_point() else drawn
    # Pinned, or the copy to a GPU would wait for it.
    return (drawn.pin_memory() if device.type == "cuda" else drawn).to(device, non_blocking=True)


def _sample(planes: Tensor, grid: Tensor, mode: str) -> Tensor:
    """Values of (N, C, H, W) planes at the places of a grid."""
    return F.grid_sample(planes.float(), grid, mode=mode, align_corners=False).to(planes.dtype)
