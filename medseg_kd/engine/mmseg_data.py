"""What MMSegmentation's data sets and preprocessor show a network, said as a spec where a spec can say it."""

import ast
import sys
from collections.abc import Mapping
from typing import Any

from mmcv.transforms import LoadAnnotations, LoadImageFromFile, Resize

from medseg_kd.datasets import DataSpec
from medseg_kd.datasets.intensities import MeanStd8
from medseg_kd.datasets.spec import MAX_CLASSES, Channel
from medseg_kd.models.mmseg_preprocessor import SegDataPreProcessor, in_float32
from medseg_kd.registry import TRANSFORMS, found

_VALUES = ("mean", "std", "bgr_to_rgb", "to_rgb")


def channels_of(preprocessor: Any) -> tuple[Channel, ...]:
    """The channels that a network gets of colour images that OpenCV reads; none where a spec cannot tell them."""
    if not isinstance(preprocessor, SegDataPreProcessor):
        return ()
    mean, std, reversed_ = preprocessor.values
    numbers = list(zip(mean or [0.0] * 3, std or [1.0] * 3, strict=True))
    if not reversed_ or len(numbers) != 3:
        return ()
    return tuple(Channel(name, MeanStd8(*each)) for name, each in zip(("red", "green", "blue"), numbers, strict=True))


def spec_of(dataset: Any, preprocessor: Any) -> DataSpec | None:
    """The spec of a data set of MMSegmentation; None of others, and where its images are not those of their files, but
    for a resize to the preprocessor's size."""
    channels, of_mmseg = channels_of(preprocessor), sys.modules.get("mmseg.datasets")  # seconds, where nobody needs it
    if (
        not channels
        or of_mmseg is None
        or not isinstance(dataset, of_mmseg.BaseSegDataset)
        or dataset.reduce_zero_label
    ):
        return None
    classes, steps = tuple(dataset.metainfo.get("classes") or ()), dataset.pipeline.transforms
    if not 2 <= len(classes) <= MAX_CLASSES or len(set(classes)) < len(classes):
        return None
    sizes = [
        _size(step)
        for step in steps
        if not isinstance(step, (LoadImageFromFile, LoadAnnotations, of_mmseg.PackSegInputs))
    ]
    colours = [getattr(step, "color_type", "color") for step in steps]
    if sizes != ([preprocessor.size] if preprocessor.size else []) or set(colours) != {"color"}:
        return None
    return DataSpec(channels, classes)


def tested_size(dataset: Mapping[str, Any]) -> tuple[int, int] | None:
    """The (height, width) to which the pipeline of a config resizes all images; None where there is no such."""
    steps = [step for step in dataset.get("pipeline") or () if isinstance(step, Mapping)]
    kinds = [found(TRANSFORMS, step.get("type")) for step in steps]
    resizing = [
        step for step, kind in zip(steps, kinds, strict=True) if isinstance(kind, type) and issubclass(kind, Resize)
    ]
    return _size(TRANSFORMS.build(dict(resizing[0]))) if len(resizing) == 1 else None


def _size(step: Any) -> tuple[int, int] | None:
    """The (height, width) that a step resizes all images to as OpenCV does by default."""
    if not isinstance(step, Resize) or step.keep_ratio or step.interpolation != "bilinear" or not step.scale:
        return None
    return step.scale[1], step.scale[0]


def saved_values(meta: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """What the preprocessor did to values in the training of a checkpoint, as :attr:`SlicePreprocessor.values`.

    The config in ``meta`` is read, not run: that of MMSegmentation 1 has a ``data_preprocessor``, that of 0 an
    ``img_norm_cfg``. None where it tells neither.
    """
    text = meta.get("cfg") or meta.get("config")
    try:
        nodes = list(ast.walk(ast.parse(text))) if isinstance(text, str) else []
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    named = {getattr(each.targets[0], "id", ""): each.value for each in nodes if isinstance(each, ast.Assign)}
    # The outermost, which of a distillation is the one that is used.
    named |= {each.arg: each.value for each in reversed(nodes) if isinstance(each, ast.keyword) and each.arg}
    found = next((named[name] for name in ("data_preprocessor", "img_norm_cfg") if name in named), None)
    if not isinstance(found, ast.Call):
        return None
    try:
        said = {each.arg: ast.literal_eval(each.value) for each in found.keywords if each.arg in _VALUES}
    except ValueError:
        return None
    mean, std = (None if said.get(name) is None else in_float32(said[name]) for name in ("mean", "std"))
    return mean, std, bool(said.get("bgr_to_rgb", said.get("to_rgb")))
