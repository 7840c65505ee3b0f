"""A case predicted as nnU-Net predicts it in a 2D configuration, from its values to its labels."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import binary_fill_holes, gaussian_filter, zoom
from torch import Tensor

from medseg_kd.datasets.intensities import ZScore
from medseg_kd.datasets.nnunet_plans import rule_of
from medseg_kd.datasets.transforms import zoom_planes
from medseg_kd.datasets.volumes import orientation_of, turned, turns
from medseg_kd.inference.case import Keep
from medseg_kd.inference.slice_batch import ON_CPU, on_cpu
from medseg_kd.nnunet_files import Plan
from medseg_kd.registry import TASK_UTILS

_ANISOTROPIC = 3
"""Axes whose spacings have a larger quotient are resampled apart."""
_STEP = 0.5
"""Of a patch, by which tiles are apart at most."""
_ON_GPU = 16


@TASK_UTILS.register_module()
class NnUNetCasePredictor:
    """Predicts a case as nnU-Net's own predictor does.

    It is cut to what is not zero, scaled by the rules of the plans, resampled within its slices to their spacing,
    predicted in tiles of a patch that overlap by half, weighted by a Gaussian and summed in half precision; the logits
    of all folds are averaged, resampled back and decoded. Volumes are taken as their files lay.

    Values of a data set with rules of its own are scaled from those, where that is exact, and are not cut.

    Args:
        slice_batch: Slices that are predicted together; None: 16 on a GPU, up to 8 on the CPU.
        mirror: Average over the flips that the training showed, as nnU-Net does unless it is told otherwise.
    """

    def __init__(self, slice_batch: int | None = None, mirror: bool = False) -> None:
        self.slice_batch, self.mirror = slice_batch, mirror

    @torch.no_grad()
    def __call__(
        self,
        model: Any,
        volume: Tensor,
        size: tuple[int, int] | None = None,
        keep: Keep | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> Tensor:
        """Label map of a case.

        Args:
            model: A :class:`~medseg_kd.models.NnUNetSegmentor`.
            volume: (S, C, H, W) slices in the intensities of the data set.
            size: (height, width) of the case's own grid, where the slices were resized when they were read.
            keep: Takes the probabilities of the slices.
            about: ``spacing``, (z, y, x) in mm, and ``geometry``, see :class:`~medseg_kd.datasets.pixels.Raw`; without
                the one they are not resampled, without the other not turned.

        Returns:
            (S, height, width) uint8 on the CPU.
        """
        plan, about = model.plan, about or {}
        image = volume.cpu().numpy().astype(np.float32).swapaxes(0, 1)
        here, there = _orientations(model, about.get("geometry"))
        image, order = turned(image, here, there), turns(here, there)[0]
        spacing = [1.0, *plan.spacing]
        if (told := about.get("spacing")) is not None:
            shrunk = [own / side for own, side in zip(size or volume.shape[-2:], volume.shape[-2:], strict=True)]
            mm = [told[0], told[1] * shrunk[0], told[2] * shrunk[1]]
            spacing = [mm[order[axis]] for axis in plan.transpose]
        image = image.transpose(0, *(1 + axis for axis in plan.transpose))
        box = nonzero_box(image) if model.sees_raw else tuple(slice(0, side) for side in image.shape[1:])
        inside = (slice(None), *box)
        cut = image[inside]
        logits = self._logits(model, normalised(cut, plan) if model.sees_raw else _scaled(cut, model), spacing)
        back = [*np.argsort(plan.transpose)]

        def on_grid(planes: np.ndarray, outside: Sequence[float]) -> np.ndarray:
            """Planes (n, ...) of the cut box on the grid of the slices, with values of their own outside."""
            whole = np.empty((len(planes), *image.shape[1:]), planes.dtype)
            whole[:] = np.reshape(outside, (-1, 1, 1, 1))
            whole[inside] = planes
            return turned(whole.transpose(0, *(1 + axis for axis in back)), there, here)

        by_slice = torch.from_numpy(logits).transpose(0, 1)
        if keep is not None:
            probabilities = model.probabilities(by_slice).transpose(0, 1).numpy()
            outside = [0.0] * len(probabilities) if model.overlapping else [1.0, *[0.0] * (len(probabilities) - 1)]
            for plane in on_grid(probabilities, outside).swapaxes(0, 1):
                keep(torch.from_numpy(np.ascontiguousarray(plane[None])))
        decoded = torch.cat([model.decode(slices.float()) for slices in by_slice.split(ON_CPU)])
        labels = on_grid(decoded.numpy()[None], [0])[0]
        return torch.from_numpy(np.ascontiguousarray(labels if size is None else zoom_planes(labels, size, order=0)))

    def _logits(self, model: Any, image: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """Logits (outputs, S, H, W) in half precision of a scaled image (C, S, H, W)."""
        plan = model.plan
        target = [spacing[0], *plan.spacing]
        sides = zip(spacing, target, image.shape[1:], strict=True)
        shape = tuple(max(1, round(mm / new * side)) for mm, new, side in sides)
        resampled = torch.from_numpy(np.ascontiguousarray(resample(image, shape, spacing, target, plan.orders[0])))
        rows, columns = (max(0, side - own) for side, own in zip(plan.patch_size, shape[1:], strict=True))
        top, left = rows // 2, columns // 2
        padded = F.pad(resampled, (left, columns - left, top, rows - top))
        total: Any = 0
        for fold in model.network.folds:
            total = total + self._tiled(fold, padded, model)
        total = total / len(model.network.folds) if len(model.network.folds) > 1 else total
        mean = total[..., top : top + shape[1], left : left + shape[2]].numpy()
        return resample(mean, image.shape[1:], target, spacing, plan.orders[1])

    def _tiled(self, fold: Any, image: Tensor, model: Any) -> Tensor:
        """Logits (outputs, S, H, W) of one network in half precision, on the CPU."""
        device, patch = next(fold.parameters()).device, model.plan.patch_size
        weight = gaussian(patch).to(device)
        logits = torch.zeros((model.num_outputs, *image.shape[1:]), dtype=torch.half, device=device)
        weights = torch.zeros(image.shape[2:], dtype=torch.half, device=device)
        batch = self.slice_batch or (min(ON_CPU, on_cpu(patch[0] * patch[1])) if device.type == "cpu" else _ON_GPU)
        for row in tile_starts(image.shape[2], patch[0]):
            for column in tile_starts(image.shape[3], patch[1]):
                tile = (..., slice(row, row + patch[0]), slice(column, column + patch[1]))
                weights[tile] += weight
                for first in range(0, image.shape[1], batch):
                    some = slice(first, first + batch)
                    slices = image[:, some][tile].transpose(0, 1).contiguous().to(device)
                    with torch.autocast(device.type, enabled=device.type == "cuda"):
                        found = self._averaged(fold, slices, model.mirror_axes)
                    logits[:, some][tile] += found.transpose(0, 1) * weight
        return logits.div_(weights).cpu()

    def _averaged(self, fold: Any, slices: Tensor, axes: Sequence[int]) -> Tensor:
        """Logits of slices, with ``mirror`` the mean of those of all their reflections."""
        found = fold(slices)
        views = [[axis - 2] for axis in axes] + ([[-2, -1]] if len(axes) == 2 else [])
        for view in views if self.mirror else ():
            found = found + fold(slices.flip(view)).flip(view)
        return found / (1 + len(views)) if self.mirror else found


def nonzero_box(image: np.ndarray) -> tuple[slice, ...]:
    """The box of an image (C, S, H, W) outside which all channels are 0; all of it where they are 0 everywhere."""
    places = np.nonzero((image != 0).any(0))
    if not places[0].size:
        return tuple(slice(0, side) for side in image.shape[1:])
    return tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in places)


def normalised(image: np.ndarray, plan: Plan) -> np.ndarray:
    """An image (C, S, H, W) of the values of its files by the rules of the plans.

    Where a z-score is masked, it is that of what is not 0 in any channel, holes filled; the rest stays as it is.
    """
    mask: Any = True
    if any(channel.masked for channel in plan.channels):
        mask = binary_fill_holes((image != 0).any(0))
    planes = []
    for values, channel in zip(image, plan.channels, strict=True):
        rule = rule_of(channel, plan.where)
        masked = isinstance(rule, ZScore) and rule.nonzero
        counted = values[mask] if masked else values
        low, high, shift, scale = map(np.float32, (ZScore() if masked else rule).numbers(counted))
        scaled = (np.clip(values, low, high) - shift) / scale
        planes.append(np.where(mask, scaled, values) if masked else scaled)
    return np.stack(planes)


def resample(
    image: np.ndarray, shape: Sequence[int], spacing: Sequence[float], new_spacing: Sequence[float], order: int
) -> np.ndarray:
    """An image (C, S, H, W) on a grid of another shape, by splines that stay within the range of its values.

    An axis whose spacing is more than three times another's is resampled apart, by nearest neighbours, and the planes
    across it one by one: nnU-Net's ``resample_data_or_seg_to_shape`` with its usual settings.
    """
    if tuple(shape) == image.shape[1:]:
        return image
    apart = _lowest_resolution(spacing, new_spacing)
    result = np.empty((len(image), *shape), image.dtype)
    for place, channel in zip(result, image, strict=True):
        values = channel.astype(np.float64)  # one at a time: a case may have many classes
        if apart is None:
            place[:] = _resized(values, shape, order)
            continue
        size = [side for axis, side in enumerate(shape) if axis != apart]
        planes = np.stack([_resized(plane, size, order) for plane in np.moveaxis(values, apart, 0)])
        nearest = np.floor((np.arange(shape[apart]) + 0.5) * (len(planes) / shape[apart])).astype(int)
        place[:] = np.moveaxis(planes[nearest.clip(0, len(planes) - 1)], 0, apart)
    return result


def _resized(values: np.ndarray, shape: Sequence[int], order: int) -> np.ndarray:
    """scikit-image's ``resize`` with the edges continued and without a filter before it."""
    factors = [new / old for new, old in zip(shape, values.shape, strict=True)]
    return zoom(values, factors, order=order, mode="nearest", grid_mode=True).clip(values.min(), values.max())


def _lowest_resolution(spacing: Sequence[float], new_spacing: Sequence[float]) -> int | None:
    """The axis that is resampled apart; None where there is none, or not one alone."""
    for each in (spacing, new_spacing):
        if max(each) / min(each) > _ANISOTROPIC:
            coarsest = [axis for axis, mm in enumerate(each) if mm == max(each)]
            return coarsest[0] if len(coarsest) == 1 else None
    return None


def tile_starts(side: int, patch: int) -> Iterator[int]:
    """Where the tiles along an axis begin, not above half a patch apart; ``side`` is not below ``patch``."""
    steps = int(np.ceil((side - patch) / (patch * _STEP)))
    return (int(np.round((side - patch) / max(1, steps) * step)) for step in range(steps + 1))


def gaussian(patch: Sequence[int]) -> Tensor:
    """Weight of each pixel of a tile, (height, width) in half precision: a Gaussian of 1/8 of the patch, 10 at most."""
    peak = np.zeros(patch)
    peak[tuple(side // 2 for side in patch)] = 1
    smooth = gaussian_filter(peak, [side / 8 for side in patch], mode="constant")
    weight = torch.from_numpy(smooth / (smooth.max() / 10)).half()
    return weight.masked_fill(weight == 0, weight[weight > 0].min())


def _scaled(image: np.ndarray, model: Any) -> np.ndarray:
    """An image (C, S, H, W) in the intensities of the data set as the network takes it."""
    scales = model.network.view.scales
    if not scales:
        return image
    planes = zip(image, scales, strict=True)
    return np.stack(
        [(v.clip(low, high) * factor + offset).astype(np.float32) for v, (low, high, factor, offset) in planes]
    )


def _orientations(model: Any, geometry: Mapping[str, Any] | None) -> tuple[str, str]:
    """How the slices lie, and how nnU-Net takes them; alike where that is not known."""
    if not geometry:
        return "LPS", "LPS"
    here = orientation_of(geometry["direction"])
    return here, model.orientation or geometry.get("orientation") or here
