"""How the slices of a data set differ from those that a nnU-Net among the models of a run was trained on."""

import logging
import statistics
from typing import Any

from mmengine.logging import print_log

from medseg_kd.datasets.intensities import NoNormalization
from medseg_kd.datasets.nnunet_plans import AS_IT_IS, rescaling, results_spec, rule_of
from medseg_kd.datasets.volumes import ORIENTATIONS, turns
from medseg_kd.errors import UserError
from medseg_kd.models.nnunet_folds import View
from medseg_kd.models.nnunet_segmentor import NnUNetSegmentor

_NEAR = 0.05
"""Pixels whose sides differ by less are taken as they are; nnU-Net's training scales by 0.7 to 1.4."""


def fit_to_data(model: Any, dataset: Any) -> None:
    """Let each nnU-Net in a model see the slices of a data set as it was trained: values, pixels, orientation.

    Args:
        model: A segmentor, or an algorithm with teachers.
        dataset: A :class:`SliceDataset` or :class:`CaseDataset`.

    Raises:
        UserError: Classes, channels or regions differ, or its intensities cannot be computed from those of the data.
    """
    taught = [teacher.model for teacher in getattr(model, "teachers", ())]
    for each in (model, *taught):
        if isinstance(each, NnUNetSegmentor):
            resized = getattr(model.data_preprocessor, "size", None) or dataset.size
            _fit(each, dataset, each is not model, resized)


def _fit(network: NnUNetSegmentor, dataset: Any, teaches: bool, resized: Any) -> None:
    """Compare, and set its ``view``; a network that predicts whole cases alone needs the intensities, no more."""
    spec, where = dataset.spec, network.weights_source
    if network.orientation is not None and network.orientation not in ORIENTATIONS:
        raise UserError(f"orientation of nnU-Net is {network.orientation!r}: expected three directions, such as RAS")
    if differ := results_spec(network.results).differences(spec):
        raise UserError(
            f"nnU-Net ({where}) was trained on other images than the data in {dataset.data_root}:\n  "
            + "\n  ".join(differ)
            + "\nTake the results and the data that belong together, or name classes and channels in dataset.spec"
        )
    network.sees_raw = all(isinstance(channel.intensity, NoNormalization) for channel in spec.channels)
    if network.sees_raw and not teaches:
        return
    rules = [rule_of(channel, network.plan.where) for channel in network.plan.channels]
    pairs = list(zip(spec.channels, rules, strict=True))
    scales = tuple(rescaling(channel, rule) for channel, rule in pairs)
    network.network.view = View(scales if any(scale != AS_IT_IS for scale in scales) else ())
    if teaches:
        network.network.view = view_on_grid(network, dataset, network.network.view.scales, resized)
        _tell(network, spec, pairs)


def view_on_grid(network: NnUNetSegmentor, dataset: Any, scales: Any, resized: Any) -> View:
    """The view of a teacher: its pixels and directions, where the data tell theirs."""
    plan, spec = network.plan, dataset.spec
    planes = [_plane(dataset, case, resized) for case in dataset.part.cases]
    lay = {orientation for _, orientation in planes}
    there = network.orientation or (lay.pop() if len(lay) == 1 else None) or spec.orientation
    order, backwards = turns(spec.orientation, there) if spec.orientation and there else ([0, 1, 2], [])
    axes = [order[axis] for axis in plan.transpose]
    if axes[0] != 0:
        raise UserError(
            f"nnU-Net ({network.weights_source}) cuts its slices along another axis of the volumes than those of "
            f"{dataset.data_root} (transpose_forward {list(plan.transpose)}): it cannot teach them slice by slice. Let "
            "it predict the training cases with --save_probabilities, and distil from those"
        )
    transposed = axes[1] == 2
    flipped = tuple(place - 3 for place, axis in enumerate(plan.transpose) if place and axis in backwards)
    known = [pixels for pixels, _ in planes if pixels is not None]
    if len(planes) > 1 and len({*known}) > 1:
        sides = [side for pixels in known for side in pixels]
        print_log(
            f"Pixels of {dataset.data_root} have sides of {min(sides):.3g} to {max(sides):.3g} mm: nnU-Net sees all "
            "slices as if they had the median",
            "current",
        )
    zoom = (1.0, 1.0)
    if known:
        its = plan.spacing[::-1] if transposed else plan.spacing
        zoom = tuple(statistics.median(sides) / mm for sides, mm in zip(zip(*known, strict=True), its, strict=True))
        zoom = (1.0, 1.0) if all(abs(factor - 1) < _NEAR for factor in zoom) else zoom
    return View(scales, transposed, flipped, zoom)


def _plane(dataset: Any, case: Any, resized: Any) -> tuple[tuple[float, float] | None, str | None]:
    """Sides of a pixel as it comes to the model, (row, column) in mm, and how the case's file lies; None: not known."""
    if case.header is not None:
        (spacing, size), orientation = case.header.plane, case.header.orientation
    else:
        pixels = dataset.format.read_slice(case, 0)
        spacing, orientation = pixels.spacing, (pixels.geometry or {}).get("orientation")
        size = pixels.image.shape[-2:]
    if spacing is None:
        return None, orientation
    shown = resized or size
    return (spacing[-2] * size[0] / shown[0], spacing[-1] * size[1] / shown[1]), orientation


def _tell(network: NnUNetSegmentor, spec: Any, pairs: Any) -> None:
    """Say in the log what of the student's slices the teacher sees otherwise."""
    view = network.network.view
    told = [f"channel {c.name} from {c.intensity} to {rule}" for c, rule in pairs if c.intensity != rule]
    if view.zoom != (1.0, 1.0):
        sides = " x ".join(f"{mm:g}" for mm in network.plan.spacing)
        told.append(f"resampled by {view.zoom[0]:.3f} x {view.zoom[1]:.3f} to {sides} mm, logits back")
    if view.transposed or view.flipped:
        how = ["rows and columns exchanged"] * view.transposed + [f"axes {view.flipped} backwards"] * bool(view.flipped)
        told.append(f"turned as its files lay: {', '.join(how)}")
    print_log(f"nnU-Net ({network.weights_source}) sees the slices " + ("; ".join(told) or "as they are"), "current")
    if spec.orientation is None and network.orientation is None:
        print_log(
            "The data do not tell how their slices lie: nnU-Net's are taken to lie alike. Where they do not, its Dice "
            "before training is low",
            "current",
            logging.WARNING,
        )
