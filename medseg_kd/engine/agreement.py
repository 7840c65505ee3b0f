"""The data, the model and the checkpoints of a run have to be of one kind: compared before anything is computed."""

import logging
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import suppress
from itertools import product
from typing import Any

from mmengine.logging import print_log
from mmseg.models.segmentors import BaseSegmentor

from medseg_kd.configuration.names import LOADERS
from medseg_kd.datasets import DataSpec
from medseg_kd.datasets.checks.splits import Part, overlap, shared_names
from medseg_kd.datasets.configured import configured_folders
from medseg_kd.engine.mmseg_data import channels_of, saved_values, tested_size
from medseg_kd.errors import UserError, some
from medseg_kd.models.mmseg_preprocessor import SegDataPreProcessor
from medseg_kd.models.networks.nnunet import NnUNet
from medseg_kd.models.preprocessor import SlicePreprocessor, in_words
from medseg_kd.models.region_segmentor import RegionSegmentor, read_regions
from medseg_kd.registry import MODELS, found


def complete_model(cfg: MutableMapping[str, Any]) -> None:
    """Give the segmentors of a whole config what it leaves to the data: ``num_classes``, ``in_channels``, ``regions``.

    What it says itself is compared. A network of nnU-Net's plans gets what they say of it: checkpoints do without them.

    Raises:
        UserError: A segmentor was made for other data, or classes or regions are left to data that cannot be opened.
    """
    _complete_size(cfg)
    segmentors = list(_segmentors(cfg["model"], "model"))
    for _, each in segmentors:
        if isinstance(network := each["network"], MutableMapping) and found(MODELS, network.get("type")) is NnUNet:
            NnUNet.settle(network)
    needed = any(
        each.get("num_classes") is None or (_learns_regions(each) and not each.get("regions")) for _, each in segmentors
    )
    spec, root = _spec(cfg, needed)
    if spec is None:
        return
    for where, segmentor in segmentors:
        said = {"num_classes": segmentor.get("num_classes"), "in_channels": _said_channels(segmentor)}
        for key, told, names in _told(spec):
            if said[key] is None:
                segmentor[key] = told
            elif said[key] != told:
                raise _mismatch(f"{where}.{key}", said[key], told, names, root)
        if _learns_regions(segmentor):
            segmentor["regions"] = segmentor.get("regions") or list(spec.decoded)
            _check_regions(where, segmentor["regions"], spec, root)


def check_model(model: Any, spec: DataSpec, root: str) -> None:
    """Refuse data, in the folder ``root``, that a segmentor, or the student of an algorithm, was not made for.

    Raises:
        UserError: Another number of classes or channels, or other regions; the message names both sides.
    """
    segmentor = getattr(model, "student", model)
    for key, told, names in _told(spec):
        own = getattr(segmentor, key, None)
        if own is not None and own != told:
            if isinstance(segmentor, BaseSegmentor):
                places = {"num_classes": "num_classes of its heads", "in_channels": "in_channels of its backbone"}
                raise UserError(
                    f"the {type(segmentor).__name__} has {key}={own}, but the data in {root} have {told} ({names}). "
                    f"Set {places[key]} to {told}"
                )
            raise _mismatch(f"model.{key}", own, told, names, root)
    if isinstance(segmentor, RegionSegmentor):
        _check_regions("model", segmentor.regions, spec, root)
    _check_values(getattr(model, "data_preprocessor", None), spec, root)


def check_labelled(model: Any, dataset: Any) -> None:
    """Refuse training data that take cases without a label where nothing labels them."""
    takes = any(each.with_unlabelled for each in owners_of(dataset, "with_unlabelled"))
    if takes and not getattr(model, "teacher_labels", False):
        raise UserError(
            "train_dataloader.dataset.with_unlabelled is set, but nothing labels these cases: distil with "
            "model.teacher_labels=True, or leave it out"
        )


def owners_of(dataset: Any, attribute: str) -> list[Any]:
    """The data sets that have an attribute: this one, or all such that it wraps."""
    if dataset is None or hasattr(dataset, attribute):
        return [] if dataset is None else [dataset]
    inner = getattr(dataset, "datasets", None) or [getattr(dataset, "dataset", None)]
    return [owner for each in inner for owner in owners_of(each, attribute)]


def owner_of(dataset: Any, attribute: str) -> Any:
    """The data set that has an attribute: this one, or the first that it wraps; None where none has it."""
    while dataset is not None and not hasattr(dataset, attribute):
        inner = getattr(dataset, "datasets", None) or [getattr(dataset, "dataset", None)]
        dataset = inner[0]
    return dataset


def check_data(cfg: Mapping[str, Any]) -> None:
    """Look for the files that are trained and validated on, before anything slow, and say which cases are both.

    Raises:
        UserError: They are not there, or a case lies in both splits of a folder, in other files with the same images.
    """
    for own, other in product(*(_parts((cfg.get(name) or {}).get("dataset")) for name in LOADERS[:2])):
        same, copied = overlap(own, other)
        root = own.reader.root
        if copied:
            raise UserError(
                f"{root}: {some(copied)} in {own.name} and in {other.name} have the same images, so that their scores "
                "say nothing of other patients. Leave them out of one with dataset.exclude_cases; to validate on what "
                f"is trained on, set val_dataloader.dataset.split={own.name!r}"
            )
        if shared := shared_names(own, other):
            both = "are both trained on and validated on, so" if same else "name cases of both splits; if they are one,"
            _warn(
                f"{some(same or shared)} of {root} {both} their scores say nothing of other patients. Hold cases out "
                "with val_cases=[...], or correct the split"
            )


def check_validation(validated: Any) -> None:
    """Refuse cases that have no label to validate on."""
    if without := validated.unlabelled:
        raise UserError(
            f"{validated.data_root}: {some(without)} cannot be validated on: there is no label. Leave such cases out "
            "with val_dataloader.dataset.exclude_cases, or set val_cfg, val_dataloader and val_evaluator to None"
        )


def check_tested(trained: Any, tested: Any) -> None:
    """Say which cases that are tested the config trains on, where its training data are there.

    Args:
        trained: Config of the training data.
        tested: The data set that is tested.
    """
    with suppress(UserError):  # they may lie on another machine
        for part in _parts(trained):
            if both := sum(overlap(part, tested.part), []):
                _warn(
                    f"{some(both)} of {tested.data_root} are trained on by this config ({part.name}), so their scores "
                    "say nothing of other patients"
                )


def _parts(dataset: Any) -> list[Part]:
    """What the data set of a config reads."""
    folders = configured_folders(dataset) if isinstance(dataset, Mapping) else []
    return [Part(folder.split, folder.reader, tuple(folder.find())) for folder in folders]


def _warn(message: str) -> None:
    print_log(message, "current", logging.WARNING)


def _told(spec: DataSpec) -> list[tuple[str, int, str]]:
    """What a spec tells a model: argument, number, and what is counted."""
    channels = ", ".join(channel.name for channel in spec.channels)
    around = f", each with {spec.neighbours} neighbours above and below" if spec.neighbours else ""
    return [
        ("num_classes", spec.num_classes, ", ".join(spec.classes)),
        ("in_channels", spec.num_channels, channels + around),
    ]


def _check_regions(where: str, own: Any, spec: DataSpec, root: str) -> None:
    """Refuse data that have not the regions of a :class:`RegionSegmentor`."""
    if not spec.decoded:
        lack = f"do not tell the class that each becomes ({', '.join(spec.regions)})" if spec.regions else "have none"
        raise UserError(
            f"{where} is a RegionSegmentor, which learns regions, but the data in {root} {lack}. "
            "Name regions, and where needed regions_class_order, in dataset.spec, or write type='Segmentor'"
        )
    if read_regions(own) != spec.decoded:
        raise _mismatch(f"{where}.regions", list(own), list(spec.decoded), "name, classes, class that it becomes", root)


def _check_values(preprocessor: Any, spec: DataSpec, root: str) -> None:
    """Refuse images whose intensity rules do not give the values that MMSegmentation's preprocessor would."""
    mean, std, _ = getattr(preprocessor, "values", SlicePreprocessor.values)
    wanted = channels_of(preprocessor)
    if mean is None or tuple(channel.intensity for channel in wanted) == tuple(c.intensity for c in spec.channels):
        return
    rules = [(channel.name, channel.intensity.to_json()) for channel in wanted]
    otherwise = f"; for weights that were trained so, dataset.spec=dict(channels={rules}) in all dataloaders"
    raise UserError(
        f"model.data_preprocessor scales images by mean={mean} and std={std}, but the intensities of {root} are those "
        f"of dataset.spec: {', '.join(map(str, spec.channels))}. Write data_preprocessor=dict(_delete_=True, "
        f"type='SlicePreprocessor') to train on those{otherwise if len(spec.channels) == len(wanted) else ''}"
    )


def _mismatch(key: str, own: Any, told: Any, names: str, root: str) -> UserError:
    return UserError(
        f"{key} is {own}, but the data in {root} have {told} ({names}). Correct {key}, or set it to None to take it "
        "from the data"
    )


def check_checkpoint(
    meta: Any, spec: DataSpec | None, source: str, whose: str = "the checkpoint", preprocessor: Any = None
) -> None:
    """Refuse a checkpoint that was trained on other classes, channels or intensities than the data of a run.

    Args:
        meta: Of the checkpoint; one without a spec, as MMEngine and MMSegmentation write it, is compared by its class
            names and by the preprocessor that the config in it has.
        spec: Of the data; None: not known.
        source: The checkpoint's file, for messages, as is ``whose``.
        preprocessor: Of the model that takes the weights.
    """
    if not isinstance(meta, Mapping):
        return
    differ: list[str] = []
    own, its = saved_values(meta), getattr(preprocessor, "values", None)
    if meta.get("spec") and spec is not None:
        differ = DataSpec.from_json(meta["spec"], f"{source}: meta.spec").differences(spec)
    elif own is not None and its is not None and own != its:
        differ = [f"values: {in_words(own)} and {in_words(its)} (data_preprocessor)"]
    if not meta.get("spec") and spec is not None:
        classes = list((meta.get("dataset_meta") or {}).get("classes") or meta.get("CLASSES") or spec.classes)
        if classes != list(spec.classes):
            differ.append(f"classes: {', '.join(map(str, classes))} and {', '.join(spec.classes)}")
    if differ:
        raise UserError(
            f"{whose} {source} was trained on other images than the data of this run:\n  "
            + "\n  ".join(differ)
            + "\nTake the checkpoint and the data that belong together, or set dataset.spec as it was then"
        )


def _spec(cfg: Mapping[str, Any], needed: bool) -> tuple[DataSpec | None, str]:
    """The spec of the first data set of a config that can be opened, and its folder."""
    problem: UserError | None = None
    for name in LOADERS:
        dataset = (cfg.get(name) or {}).get("dataset")
        if not isinstance(dataset, Mapping):
            continue
        try:
            folders = configured_folders(dataset)
        except UserError as error:
            problem = problem or error
            continue
        if folders:
            return folders[0].reader.spec, str(dataset.get("data_root", name))
    if needed and problem is not None:
        raise problem
    return None, ""


def _complete_size(cfg: Mapping[str, Any]) -> None:
    """Tell MMSegmentation's preprocessor to what its test pipeline resizes images, for those that have no pipeline."""
    model = cfg["model"]
    tested = [(cfg.get(name) or {}).get("dataset") for name in LOADERS[1:]]
    sizes = {tested_size(dataset) for dataset in tested if isinstance(dataset, Mapping)}
    size = sizes.pop() if len(sizes) == 1 else None
    for part in (model, model.get("architecture")) if size and isinstance(model, Mapping) else ():
        given = part.get("data_preprocessor") if isinstance(part, Mapping) else None
        if isinstance(given, MutableMapping) and found(MODELS, given.get("type")) is SegDataPreProcessor:
            given.setdefault("image_size", size)


def _segmentors(model: Any, where: str) -> Iterator[tuple[str, MutableMapping[str, Any]]]:
    """Place and config of all segmentors of ours in a model: itself, a student, its teachers."""
    if not isinstance(model, MutableMapping):
        return
    if "network" in model:
        yield where, model
    for key in ("architecture", "teacher"):
        yield from _segmentors(model.get(key), f"{where}.{key}")
    for index, each in enumerate(model.get("teachers") or ()):
        if isinstance(each, Mapping):
            yield from _segmentors(each.get("model"), f"{where}.teachers[{index}].model")


def _learns_regions(segmentor: Mapping[str, Any]) -> bool:
    """Whether a config is that of a :class:`RegionSegmentor`."""
    kind = found(MODELS, segmentor.get("type"))
    return isinstance(kind, type) and issubclass(kind, RegionSegmentor)


def _said_channels(segmentor: Mapping[str, Any]) -> int | None:
    """Input channels that the config of a segmentor gives, at one of the places where it may."""
    network = segmentor["network"]
    if not isinstance(network, Mapping):
        return segmentor.get("in_channels", getattr(network, "in_channels", None))
    places = (segmentor, network, network.get("backbone") or {})
    return next((place["in_channels"] for place in places if place.get("in_channels") is not None), None)
