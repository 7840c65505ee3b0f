"""nnU-Net's augmentation of a whole batch on its device."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medseg_kd.errors import UserError
from medseg_kd.models.augmentation import Draws, resample, rotation, send
from medseg_kd.registry import MODELS

Range = tuple[float, float]
_TAPS = 4


@MODELS.register_module()
@dataclass(eq=False, repr=False)
class NnUNetAugmentation(nn.Module):
    """The 2D augmentation of nnU-Net v2 (Isensee et al., 2021; numbers of nnunetv2 2.8's ``get_training_transforms``).

    Rotation, scaling, shift, elastic bending and mirroring are one resampling, image bilinear, label nearest, outside
    0. Then, of the image alone and of each channel by itself, come noise, blur, brightness, contrast, low resolution,
    gamma of the inverted image and gamma. Each has its probability for a slice, and its range; a range that holds 1 is
    drawn from below or above 1 with equal chance, as there. What is drawn comes from PyTorch's global CPU generator, so
    that what no slice of a batch gets costs nothing; the noise itself comes from that of the device. Labels are
    resampled by nearest, where nnU-Net interpolates their masks.

    Args:
        degree: Largest angle; None: 180, for slices of which a side is over 1.5 times the other 15.
        scale: Output pixels are so many input pixels: above 1 things get smaller.
        shift: Largest, as a share of each side. nnU-Net's patches are placed at random instead: off.
        mirror_prob: Of each axis.
        elastic: Largest bending, as a share of each side, of 4x4 cells; off, as in nnU-Net.
        noise: Standard deviation, in that of the channel (nnU-Net's images have 1).
        blur: Standard deviation in pixels, one for each axis, of half of the channels.
        low_resolution: Size of the coarse image, of half of the channels.

    Raises:
        UserError: A probability or a range is none.
    """

    rotate_prob: float = 0.2
    degree: float | None = None
    scale_prob: float = 0.2
    scale: Range = (0.7, 1.4)
    shift_prob: float = 0.0
    shift: float = 0.1
    mirror_prob: float = 0.5
    elastic_prob: float = 0.0
    elastic: float = 0.02
    noise_prob: float = 0.1
    noise: Range = (0.0, 0.1)
    blur_prob: float = 0.2
    blur: Range = (0.5, 1.0)
    brightness_prob: float = 0.15
    brightness: Range = (0.75, 1.25)
    contrast_prob: float = 0.15
    contrast: Range = (0.75, 1.25)
    low_resolution_prob: float = 0.25
    low_resolution: Range = (0.5, 1.0)
    inverted_gamma_prob: float = 0.1
    gamma_prob: float = 0.3
    gamma: Range = (0.7, 1.5)

    def __post_init__(self) -> None:
        super().__init__()
        self.shared_seed: int | None = None
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if name.endswith("_prob") and not 0 <= value <= 1:
                raise UserError(f"NnUNetAugmentation: {name} is {value!r}: expected a probability, 0 to 1")
            if isinstance(value, (tuple, list)) and (len(value) != 2 or not 0 <= value[0] <= value[1]):
                raise UserError(
                    f"NnUNetAugmentation: {name} is {value!r}: expected (lowest, highest), neither negative"
                )

    def views(self, square: bool) -> list[tuple[int, bool]]:
        """See :meth:`RandomRotateFlip.views`: mirrored along each axis, and along both."""
        return [(0, True), (2, True), (2, False)] if self.mirror_prob > 0 else []

    @torch.no_grad()
    def forward(self, images: Tensor, labels: Tensor, soft: Tensor | None = None) -> tuple[Tensor, ...]:
        """Augment (N, C, H, W) images and move their (N, H, W) labels alike, in float32 whatever autocast says.

        See :meth:`RandomRotateFlip.forward` for ``soft``.
        """
        dtype, draws = images.dtype, Draws(len(images), self.shared_seed)
        with torch.autocast(images.device.type, enabled=False):
            moved, *others = self._move(images.float(), labels, draws, soft)
            return self._change(moved, draws).to(dtype), *others

    def _move(self, images: Tensor, labels: Tensor, draws: Draws, soft: Tensor | None) -> tuple[Tensor, ...]:
        """All that happens to places."""
        height, width = labels.shape[-2:]
        size = torch.tensor((width, height), dtype=torch.float64)
        of = (self.rotate_prob, self.scale_prob, self.shift_prob, self.elastic_prob)
        turned, scaled, shifted, bent = (draws() < probability for probability in of)
        largest = self.degree
        if largest is None:
            largest = 15.0 if max(height, width) > 1.5 * min(height, width) else 180.0
        matrix = rotation(torch.where(turned, _within((-largest, largest), draws()), 0.0))
        matrix = matrix * torch.where(scaled, _within(self.scale, draws()), 1.0)[:, None, None]
        matrix = matrix * torch.where(draws(2) < self.mirror_prob, -1.0, 1.0)[:, None]
        shift = torch.where(shifted[:, None], _within((-self.shift, self.shift), draws(2)) * size, 0.0)
        bend = None
        if self.elastic_prob:
            bend = _within((-self.elastic, self.elastic), draws(2, 5, 5)) * size[:, None, None]
            bend = bend * bent[:, None, None, None]
        return resample(images, labels, matrix, ~(turned | scaled | shifted | bent), shift, bend, soft)

    def _change(self, x: Tensor, draws: Draws) -> Tensor:
        """All that happens to intensities, which leaves those that nothing was drawn for as they are.

        All is drawn, as other processes may need what this one does not.
        """
        channels, device = x.shape[1], x.device
        chosen, noise = draws(1) < self.noise_prob, _within(self.noise, draws(1))
        if chosen.any():
            spread = x.std((2, 3), keepdim=True) * send(noise * chosen, device)[..., None, None]
            x = torch.addcmul(x, torch.randn_like(x), spread)
        chosen = (draws(1) < self.blur_prob) & (draws(channels) < 0.5)
        sigma = _within(self.blur, draws(channels, 2)) * chosen[..., None]
        if chosen.any():
            x = _blurred(x, send(_gaussian(sigma), device))
        bright, stretched = draws(1) < self.brightness_prob, draws(1) < self.contrast_prob
        factors = [torch.where(bright, _around_one(self.brightness, draws, channels), 1.0)]
        factors += [torch.where(stretched, _around_one(self.contrast, draws, channels), 1.0)]
        if (bright | stretched).any():
            x = _stretched(x, *send(torch.stack(factors), device)[..., None, None])
        chosen = (draws(1) < self.low_resolution_prob) & (draws(channels) < 0.5)
        scale = torch.where(chosen, _within(self.low_resolution, draws(channels)), 1.0)
        if chosen.any():
            for axis in (2, 3):
                x = _coarse(x, axis, *_coarse_places(scale, x.shape[axis]))
        for probability, sign in ((self.inverted_gamma_prob, -1), (self.gamma_prob, 1)):
            chosen, exponent = draws(1) < probability, _around_one(self.gamma, draws, channels)
            if chosen.any():
                changed = _to_the_power(x, send(exponent, device)[..., None, None], sign)
                x = torch.where(send(chosen, device)[..., None, None], changed, x)
        return x


def _within(between: Range, drawn: Tensor) -> Tensor:
    """Numbers in [0, 1) as numbers of a range, float64."""
    return between[0] + (between[1] - between[0]) * drawn.double()


def _around_one(between: Range, draws: Draws, channels: int) -> Tensor:
    """(N, channels) numbers: below or above 1 with equal chance where a range has both, uniform in each part."""
    below, drawn = (draws(channels) < 0.5) & (between[0] < 1), draws(channels)
    return torch.where(below, _within((between[0], 1), drawn), _within((max(between[0], 1), between[1]), drawn))


def _gaussian(sigma: Tensor) -> Tensor:
    """Kernels (..., 2 * _TAPS + 1) of standard deviations; for 0 the one that changes nothing."""
    place = torch.arange(-_TAPS, _TAPS + 1)
    kernel = torch.exp(-0.5 * (place / sigma.clamp(min=1e-3)[..., None]) ** 2)
    return kernel / kernel.sum(-1, keepdim=True)


def _blurred(x: Tensor, kernels: Tensor) -> Tensor:
    """(N, C, H, W) convolved along rows and columns with (N, C, 2, K) kernels; mirrored at the rim, as in nnU-Net."""
    planes = F.pad(x, (_TAPS,) * 4, mode="reflect").flatten(0, 1)[None]
    columns, rows = kernels.flatten(0, 1)[:, None].unbind(2)
    planes = F.conv2d(planes, columns[..., None], groups=planes.shape[1])
    return F.conv2d(planes, rows[:, :, None], groups=planes.shape[1]).view_as(x)


def _stretched(x: Tensor, brightness: Tensor, contrast: Tensor) -> Tensor:
    """(N, C, H, W) times a brightness, then away from its mean by a contrast, within the range that it has."""
    mean, low, high = x.mean((2, 3), keepdim=True), x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    stretched = torch.addcmul(mean * brightness * (1 - contrast), x, brightness * contrast)
    return stretched.clamp(low * brightness, high * brightness)


def _coarse_places(scale: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where the pixels of an axis come from that was made coarse, nearest, and fine again, linear.

    Returns:
        (..., length) pixels on both sides, and the share of the second.
    """
    cells = (length * scale).round()[..., None]
    place = ((torch.arange(length) + 0.5) * cells / length - 0.5).clamp(min=torch.zeros(()), max=cells - 1)
    first = place.floor()
    second = torch.minimum(first + 1, cells - 1)
    from_first, from_second = (((cell + 0.5) * length / cells).long() for cell in (first, second))
    return from_first, from_second, place - first


def _coarse(x: Tensor, axis: int, first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Interpolate (N, C, H, W) along an axis; see :func:`_coarse_places`."""
    across = (slice(None),) * 2 + ((..., None) if axis == 2 else (None,))
    one, other = (x.take_along_dim(send(places, x.device)[across], axis) for places in (first, second))
    return one.lerp(other, send(share, x.device)[across])


def _to_the_power(x: Tensor, exponent: Tensor, sign: int) -> Tensor:
    """Gamma of (N, C, H, W), of the inverted image with sign -1, that keeps mean and deviation."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    power = (((x - low) if sign > 0 else (high - x)) / (high - low).clamp(min=1e-7)).pow(exponent)
    deviation, mean = torch.std_mean(power, (2, 3), keepdim=True)
    before, middle = torch.std_mean(x, (2, 3), keepdim=True)
    return middle + sign * (power - mean) * (before / deviation.clamp(min=1e-7))
