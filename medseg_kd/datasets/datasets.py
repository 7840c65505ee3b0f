"""Slices to train on, cases to test on."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from medseg_kd.datasets.checks.splits import Part
from medseg_kd.datasets.choice import Choice
from medseg_kd.datasets.collate import collate_cases, collate_slices
from medseg_kd.datasets.formats import Case, Format, open_folder
from medseg_kd.datasets.integrity import paths_of
from medseg_kd.datasets.soft_labels import open_soft_labels
from medseg_kd.datasets.spec import DataSpec
from medseg_kd.datasets.transforms import LoadCase, LoadSlice, PackSlice, load_slice
from medseg_kd.errors import UserError, some
from medseg_kd.registry import DATASETS, TRANSFORMS


class _FolderDataset(BaseDataset):
    """What slices and cases share: a data folder, a split of it, a choice of cases.

    Args:
        data_root: Data folder, in one of the formats of :mod:`medseg_kd.datasets.formats`.
        split: ``train``, ``val`` or ``test``.
        format: A format or its name; ``auto`` takes the first that finds its files.
        format_options: Arguments of the format.
        spec: What the images are: arguments of :class:`DataSpec`, those that the folder does not tell itself; what both
            tell must agree.
        size: (height, width) to which slices are resized when they are read, as the code behind published Synapse
            tables does: cubic splines, labels nearest. Predictions come back on the case's own grid. For a resize on
            the device see :class:`~medseg_kd.models.SlicePreprocessor`.
        cases: Only these; None takes all.
        exclude_cases: Not these.
        pipeline: Transforms or their configs; None takes the usual ones. A name of MMSegmentation's carries its scope,
            as in ``type='mmseg.RandomRotFlip'``.
        metainfo: ``classes``, the class names with background first, where ``spec`` does not give them.
        layout: Former name of ``format``.
    """

    default_pipeline: tuple[dict[str, Any], ...] = ()
    labelled: Sequence[str] | None = None
    with_unlabelled = False

    def __init__(
        self,
        data_root: str,
        split: str = "train",
        format: str | type[Format] = "auto",
        format_options: Mapping[str, Any] | None = None,
        spec: Mapping[str, Any] | None = None,
        size: tuple[int, int] | None = None,
        cases: Sequence[str] | None = None,
        exclude_cases: Sequence[str] = (),
        pipeline: Sequence[dict[str, Any] | Callable[[dict[str, Any]], Any]] | None = None,
        metainfo: dict[str, Any] | None = None,
        layout: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.split = split
        self.format: Format = open_folder(data_root, split, layout or format, spec_of(spec, metainfo), format_options)
        self.format_options = dict(format_options or {})
        self.size = None if size is None else checked_size(size)
        self.choice = Choice(cases, exclude_cases, self.labelled, self.with_unlabelled)
        self._found: list[Case] = []
        if pipeline is not None and not pipeline:
            raise UserError(f"dataset.pipeline is {pipeline!r}: name its steps, or leave it out for the usual ones")
        if kwargs.get("lazy_init"):
            raise UserError("dataset.lazy_init is True, but the cases are looked for at once: leave it out")
        # Built here, so that names of this project's and MMSegmentation's transforms need no default scope.
        transforms = [
            TRANSFORMS.build(dict(step)) if isinstance(step, dict) else step
            for step in pipeline or self.default_pipeline
        ]
        # Left out where there are none, so that it is what a checkpoint of a version without them holds.
        regions = {"regions": dict(self.spec.regions)} if self.spec.regions else {}
        loading = (LoadImageFromFile, LoadAnnotations)
        if foreign := [type(step).__name__ for step in transforms if isinstance(step, loading)]:
            raise UserError(
                f"dataset.pipeline has {foreign[0]}, which reads the files of MMSegmentation's data sets. Here "
                "LoadSlice (LoadCase in a test) reads image and label; other transforms follow it"
            )
        super().__init__(
            data_root=data_root,
            metainfo={**(metainfo or {}), "classes": self.spec.classes, **regions},
            data_prefix={},
            pipeline=transforms,
            **kwargs,
        )
        manifest = self.format.manifest
        if note := manifest.get("note", "synthetic data" if manifest.get("synthetic") else ""):
            self._metainfo["note"] = note

    @property
    def spec(self) -> DataSpec:
        """What the images are."""
        return self.format.spec

    @property
    def case_names(self) -> list[str]:
        """The cases that this data set takes."""
        return [case.name for case in self._found]

    @property
    def part(self) -> Part:
        """The split and those of its cases that this data set takes."""
        return Part(self.split, self.format, tuple(self._found))

    @property
    def unlabelled(self) -> list[str]:
        """Those of them that have no label."""
        return [case.name for case in self._found if not case.labelled]

    def load_data_list(self) -> list[dict[str, Any]]:
        """Entries of the chosen cases."""
        self._found = self.choice.of(self.format, self.split)
        if holed := [case.name for case in self._found if case.holes]:
            print_log(
                f"{self.data_root}: slices are missing in the middle of {some(holed)}: their numbers have holes",
                "current",
                logging.WARNING,
            )
        entries = [entry for number, case in enumerate(self._found) for entry in self._entries(number, case)]
        chosen = self._indices
        if isinstance(chosen, Sequence) and (beyond := [index for index in chosen if index >= len(entries)]):
            raise UserError(f"dataset.indices has {beyond[0]}, but there are {len(entries)} items, the first of them 0")
        if isinstance(chosen, int) and chosen > len(entries):
            raise UserError(f"dataset.indices takes the first {chosen} items, but there are {len(entries)}")
        return entries

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Entry of an item, with what reads it: ``format``, ``case``, ``size``."""
        info = super().get_data_info(idx)
        return {**info, "format": self.format, "case": self._found[info["case"]], "size": self.size}

    def _entries(self, number: int, case: Case) -> Iterable[dict[str, Any]]:
        """The items that a case gives."""
        raise NotImplementedError


@DATASETS.register_module()
class SliceDataset(_FolderDataset):
    """Slices with labels: ``inputs`` (C, H, W) float32, ``labels`` (H, W) uint8, ``meta``; see :class:`PackSlice`.

    Args:
        cache: Where a run keeps the decoded slices (:mod:`medseg_kd.datasets.cached_slices`): ``device``, on the GPU;
            ``host``, in a memory-mapped file; ``auto``, on the GPU where they take at most a quarter of its free
            memory, else in the file; None reads and decodes the files each time. A pipeline of one's own is not cached.
        cache_dir: Folder of that file; None: ``.cache`` in the data folder, else in the user's cache folder.
        soft_labels: Folder, or folders, with the probabilities of each case in a file
            (:mod:`medseg_kd.datasets.stored_probabilities`): items have ``soft`` too, (K, H, W) float16 of the K
            classes. They are kept in a file beside the cache, and on the GPU where the slices are. A runner sets it
            where the teacher is a :class:`~medseg_kd.distill.StoredTeacher`.
        labelled: The labels of these cases alone are read; None: of all that have one.
        with_unlabelled: Take the cases without a label too: all pixels of their ``labels`` are ignored (255). A runner
            sets it where a teacher labels them (``model.teacher_labels``). False leaves them out where ``labelled``
            names the others, and is an error where it does not.
        options: Those that slices and cases share.
    """

    default_pipeline = (dict(type=LoadSlice), dict(type=PackSlice))
    collate = staticmethod(collate_slices)

    def __init__(
        self,
        data_root: str,
        split: str = "train",
        cache: str | None = None,
        cache_dir: str | None = None,
        soft_labels: str | Sequence[str] | None = None,
        labelled: Sequence[str] | None = None,
        with_unlabelled: bool = False,
        **options: Any,
    ) -> None:
        if cache not in (None, "auto", "device", "host"):
            raise UserError(f"dataset.cache is {cache!r}: expected auto, device, host or None")
        if not isinstance(cache_dir, str | Path | None):
            raise UserError(f"dataset.cache_dir is {cache_dir!r}: expected a folder or None")
        if options.get("pipeline"):
            if soft_labels is not None:
                raise UserError(
                    "dataset.pipeline is one of your own, which would not move soft labels with the slices. Leave it "
                    "out, and augment with model.data_preprocessor.augmentation"
                )
            if cache in ("device", "host"):
                raise UserError(
                    f"dataset.cache is {cache!r}, but dataset.pipeline is one of your own, whose steps are not cached. "
                    "Leave one of the two out"
                )
            cache = None
        self.cache, self.cache_dir = cache, cache_dir
        self.labelled, self.with_unlabelled = labelled, with_unlabelled
        super().__init__(data_root, split, **options)
        given = [soft_labels] if isinstance(soft_labels, str) else soft_labels
        self.soft = None if given is None else open_soft_labels(self, [*map(Path, given)])

    def load_data_list(self) -> list[dict[str, Any]]:
        """Entries of the chosen cases."""
        entries = super().load_data_list()
        if self.with_unlabelled:
            told = f"{len(self.unlabelled)} of {len(self._found)} cases have no label: the teacher gives them one"
            print_log(f"{self.data_root}: {told}", "current")
        return entries

    def prepare_data(self, idx: int) -> Any:
        """See MMEngine's class."""
        item = super().prepare_data(idx)
        return item if self.soft is None else {**item, "soft": self.soft.of(self.get_data_info(idx))}

    def decode(self, index: int) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
        """Image (C, H, W) of a slice without its neighbours, label (H, W), and (H, W) in its file."""
        return load_slice(self.get_data_info(index))

    @property
    def is_whole(self) -> bool:
        """Whether all slices of the cases are there, and not some of them (``indices``)."""
        return len(self) == sum(case.size for case in self._found)

    def neighbours_of(self, index: int) -> list[int]:
        """Indices of the slices that are stacked with a slice, itself in the middle; those at an end stand in."""
        info, around = self.get_data_info(index), self.spec.neighbours
        places = np.clip(np.arange(-around, around + 1), -info["position"], info["case"].size - 1 - info["position"])
        return (index + places).tolist()

    def origin(self) -> Any:
        """What decoded slices depend on beside the files."""
        kind, spec = type(self.format), {**self.spec.to_json(), "neighbours": None}
        unlabelled = [self.unlabelled] if self.unlabelled else []
        return [f"{kind.__module__}.{kind.__qualname__}", self.format_options, spec, self.size, *unlabelled]

    def files(self) -> list[Path] | None:
        """The files of all slices, in order; None where a format of one's own does not tell them."""
        found: list[Path] = []
        for case in self._found:
            for source in case.slices if case.volume is None else (case.volume,):
                if not (named := paths_of(source)):
                    return None
                found += named
        return found

    def _entries(self, number: int, case: Case) -> Iterable[dict[str, Any]]:
        if not (case.labelled or self.with_unlabelled):
            raise UserError(
                f"{self.data_root}: case {case.name} has no label, so it cannot be trained on. Add the label, leave "
                "the case out with dataset.exclude_cases, or let a teacher label it (model.teacher_labels=True)"
            )
        if self.spec.neighbours and case.holes:
            raise UserError(
                f"{self.data_root}: case {case.name} lacks the slices {', '.join(map(str, case.holes[:8]))}, but "
                f"neighbours={self.spec.neighbours} stacks slices that lie side by side. Add them, or leave the case "
                "out with dataset.exclude_cases"
            )
        return [
            dict(case=number, position=position, case_name=case.name, slice_index=case.index(position))
            for position in range(case.size)
        ]


@DATASETS.register_module()
class CaseDataset(_FolderDataset):
    """Whole cases, one an item; see :class:`LoadCase`. ``split='train'`` takes training cases."""

    default_pipeline = (dict(type=LoadCase),)
    collate = staticmethod(collate_cases)

    def __init__(self, data_root: str, split: str = "test", test_mode: bool = True, **kwargs: Any) -> None:
        super().__init__(data_root, split, test_mode=test_mode, **kwargs)

    def _entries(self, number: int, case: Case) -> Iterable[dict[str, Any]]:
        case.check_whole()
        return [dict(case=number, case_name=case.name)]


def spec_of(spec: Mapping[str, Any] | None, metainfo: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a config says of the images in ``dataset.spec``, and of their classes there or in ``dataset.metainfo``."""
    if not isinstance(spec, Mapping | None):
        raise UserError(
            f"dataset.spec is {spec!r}: expected a dict. On the command line its keys are named one by one, such as "
            "train_dataloader.dataset.spec.neighbours=1, for all three dataloaders"
        )
    classes = (metainfo or {}).get("classes")
    return {**({} if classes is None else {"classes": classes}), **(spec or {})}


def checked_size(size: Any) -> tuple[int, int]:
    """A height and a width."""
    if not isinstance(size, (list, tuple)) or len(size) != 2 or any(type(side) is not int or side < 1 for side in size):
        raise UserError(f"dataset.size is {size!r}: expected (height, width), as in (224, 224), or None")
    return size[0], size[1]
