"""The batches that a run draws, as its network gets them, and the same slices before they are augmented."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import DefaultScope
from torch import Tensor
from torch.utils.data import DataLoader

from medseg_kd.configuration import segmentor_of, settle_imports, type_errors_explained
from medseg_kd.configuration.names import innermost
from medseg_kd.datasets import DataSpec, collate_cases
from medseg_kd.datasets.integrity import opened
from medseg_kd.engine import IterationSeedHook, Runner
from medseg_kd.engine.agreement import complete_model, owners_of
from medseg_kd.engine.mmseg_data import spec_of
from medseg_kd.errors import UserError
from medseg_kd.models import SlicePreprocessor
from medseg_kd.models.mmseg_preprocessor import replace_mmseg
from medseg_kd.models.preprocessor import without_samples
from medseg_kd.progress import progress
from medseg_kd.registry import MODELS

OF_CASE = 8
"""Slices of a validation or test case that are shown."""


@dataclass(frozen=True)
class Slice:
    """A slice of a batch.

    Attributes:
        name: Case and slice.
        batch: Number of the batch, from 0.
        plain: Image (C, H, W) and labels (H, W), or None, resized and not augmented.
        seen: The same as the network gets them; ``plain`` itself where nothing is augmented.
        raw: Values of the file, (C, H, W) without neighbours; None where it holds no others, or is not known.
    """

    name: str
    batch: int
    plain: tuple[np.ndarray, np.ndarray | None]
    seen: tuple[np.ndarray, np.ndarray | None]
    raw: np.ndarray | None


@dataclass(frozen=True)
class Browsed:
    """Batches of a loader, and its whole data set.

    Attributes:
        loader: It, without processes.
        spec: What the images are; None where nothing tells.
        classes: Names, background first.
        preprocessor: That of the segmentor that is trained.
        slices: Those of the batches.
        notes: What is to be said of them.
    """

    loader: DataLoader
    spec: DataSpec | None
    classes: Sequence[str]
    preprocessor: SlicePreprocessor
    slices: Sequence[Slice]
    notes: Sequence[str]


def browse(cfg: Config, split: str, batches: int) -> Browsed:
    """Draw the first batches of a run: those of its training are the same, augmentation included.

    Args:
        cfg: A whole config, see :func:`medseg_kd.configuration.load_run`. Of a distillation it is what the student
            sees; no network is built and no teacher looked for.
        split: ``train``, ``val`` or ``test``: the loader.
        batches: How many, at least 1.

    Raises:
        UserError: The config has no such loader, or its data cannot be read.
    """
    settings = cfg.get(f"{split}_dataloader")
    if not settings:
        raise UserError(f"the config has no {split}_dataloader: there is nothing to show of it")
    settle_imports(cfg)
    with type_errors_explained(cfg), DefaultScope.overwrite_default_scope(cfg.get("default_scope", "medseg_kd")):
        complete_model(cfg)
        seed = cfg.get("randomness", {}).get("seed") or 0
        alone = {key: value for key, value in settings.items() if key not in ("prefetch_factor", "timeout")}
        loader = Runner.build_dataloader({**alone, "num_workers": 0}, seed=seed)
        preprocessor = _preprocessor(segmentor_of(cfg["model"]))
    owners = owners_of(loader.dataset, "format")
    spec = owners[0].spec if owners else spec_of(loader.dataset, preprocessor)
    classes = spec.classes if spec else (getattr(loader.dataset, "metainfo", None) or {}).get("classes", ())
    slices: list[Slice] = []
    volumes: dict[str, np.ndarray] = {}
    for number, batch in enumerate(islice(loader, batches)):
        seeded = SimpleNamespace(seed=seed, iter=number, bare_model=preprocessor)
        IterationSeedHook().before_train_iter(seeded, number)
        for name, meta, plain, seen in _of_batch(batch, preprocessor, split == "train"):
            slices.append(Slice(name, number, plain, seen, _raw(owners, meta, volumes)))
    return Browsed(loader, spec, classes, preprocessor, slices, _notes(settings, split, owners, preprocessor))


def count_classes(dataset: Any) -> Iterator[np.ndarray]:
    """For each slice of a data set the pixels of each label value, (256,); nothing of cases without a label."""
    for index in progress(range(len(dataset)), "counting classes"):
        for labels in without_samples(collate_cases([dataset[index]]))["labels"] or ():
            for plane in () if labels is None else labels.cpu().numpy().reshape(-1, *labels.shape[-2:]):
                yield np.bincount(plane.ravel(), minlength=256)


def _preprocessor(segmentor: Mapping[str, Any]) -> SlicePreprocessor:
    """That of a segmentor, which is not built."""
    given, ignored = segmentor.get("data_preprocessor") or {}, segmentor.get("ignore_index", 255)
    built = MODELS.build({"type": SlicePreprocessor, **given}) if isinstance(given, Mapping) else given
    built = replace_mmseg(built, ignored)
    built = built if isinstance(built, SlicePreprocessor) else SlicePreprocessor(ignore_index=ignored)
    return built.to(get_device())


def _of_batch(batch: dict[str, Any], preprocessor: SlicePreprocessor, training: bool) -> Iterator[tuple[Any, ...]]:
    """Name, meta, plain and seen of the slices of a batch, or of some of each case of it."""
    seen = preprocessor(batch, training)
    if isinstance(seen["inputs"], Tensor):
        plain = seen if preprocessor.augmentation is None else preprocessor(batch, False)
        for place, meta in enumerate(plain["meta"]):
            number = f", slice {meta['slice_index']}" if "slice_index" in meta else ""
            pair = augmented = _pair(plain["inputs"][place], _labels(plain, place))
            if seen is not plain:
                augmented = _pair(seen["inputs"][place], _labels(seen, place))
            yield f"{meta.get('case_name', place)}{number}", meta, pair, augmented
        return
    for volume, labels, meta in zip(seen["inputs"], seen["labels"], seen["meta"], strict=True):
        for position in np.unique(np.linspace(0, len(volume) - 1, OF_CASE).round().astype(int)):
            image = preprocessor.resize(volume[position : position + 1].to(preprocessor.device))[0]
            pair = _pair(image, None if labels is None else labels[position])
            yield f"{meta['case_name']}, slice {position}", {**meta, "position": int(position)}, pair, pair


def _labels(batch: dict[str, Any], place: int) -> Any:
    return None if batch["labels"] is None else batch["labels"][place]


def _pair(image: Tensor, labels: Tensor | None) -> tuple[np.ndarray, np.ndarray | None]:
    """An image and its labels on the image's grid."""
    if labels is not None and labels.shape != image.shape[-2:]:  # of a test, which scores on the file's own grid
        labels = F.interpolate(labels[None, None].to(torch.uint8), image.shape[-2:], mode="nearest-exact")[0, 0]
    return image.float().cpu().numpy(), None if labels is None else labels.to(torch.uint8).cpu().numpy()


def _raw(owners: Sequence[Any], meta: Mapping[str, Any], volumes: dict[str, np.ndarray]) -> np.ndarray | None:
    """The values of a slice in its file, (C, H, W); None where one of several data sets may hold it."""
    found = [(each.format, case) for each in owners for case in each.part.cases if case.name == meta.get("case_name")]
    if len(found) != 1 or found[0][0].prepared:
        return None
    ((reader, case),) = found
    position = meta.get("position")
    if position is None:
        position = case.indices.index(meta["slice_index"]) if case.indices else meta["slice_index"]
    if case.volume is None:
        image = opened(case.slices[position], reader.load).image
        return image if image.ndim == 3 else image[None]
    if case.name not in volumes:
        volumes.clear()  # one at a time
        image = opened(case.volume, reader.load).image
        volumes[case.name] = image if image.ndim == 4 else image[None]
    return volumes[case.name][:, position]


def _notes(settings: Any, split: str, owners: Sequence[Any], preprocessor: SlicePreprocessor) -> list[str]:
    """What a reader might take for something else."""
    notes = []
    if split == "train" and any(each.get("pipeline") for each in innermost(settings["dataset"])):
        notes.append(
            "dataset.pipeline may change slices as they are read, and draws anew each time: both pictures and the "
            "counts show them after it, and training draws others"
        )
    if any(each.format.prepared for each in owners):
        notes.append("The files hold what the intensity rules gave: their histogram before the rule is not known")
    if not owners:
        notes.append("A data set of MMSegmentation: the values before its preprocessor are not shown")
    if split != "train":
        notes.append("Validation and test augment nothing: both pictures are one")
    elif preprocessor.augmentation is None:
        notes.append("model.data_preprocessor.augmentation is None: both pictures are one")
    return notes
