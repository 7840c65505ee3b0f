"""nnU-Net's raw folders: ``Dataset###_Name`` with ``dataset.json``, a file a channel, folds for training."""

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medseg_kd.datasets.formats.base import Case, Format, visible
from medseg_kd.datasets.formats.nifti import Files, volume_cases
from medseg_kd.datasets.image_files import read_label, read_pixels
from medseg_kd.datasets.integrity import opened
from medseg_kd.datasets.intensities import RGB8, Intensity, Percentiles, Stored, ZScore
from medseg_kd.datasets.listings import is_plain_name, read_json, typed
from medseg_kd.datasets.pixels import Raw
from medseg_kd.datasets.spec import parts_of_json
from medseg_kd.datasets.volumes import ORIENTATION, read_volume
from medseg_kd.errors import UserError, some
from medseg_kd.nnunet_files import labels_of
from medseg_kd.registry import FORMATS

FOLDS = 5
_IMAGES = (".png", ".bmp", ".tif")
_VOLUMES = (".nii.gz", ".nii", ".nrrd", ".mha")
# nnU-Net's names in lower case; it makes ZScore of R, G and B, which are bytes in every data set that has them.
_RULES: dict[str, Intensity] = {
    "nonorm": Stored(),
    "rescale_to_0_1": Percentiles(0, 100),
    **dict.fromkeys(("rgb_to_0_1", "r", "g", "b"), RGB8()),
}


@FORMATS.register_module()
class NNUNet(Format):
    """``dataset.json``, ``imagesTr/<case>_<channel>.nii.gz``, ``labelsTr/<case>.nii.gz``, as nnU-Net v2 reads them.

    ``train`` and ``val`` are those of a fold: of ``splits_final.json`` in the folder, else nnU-Net's own five folds.
    ``test`` is ``imagesTs`` where ``labelsTs`` is there too, else the fold's ``val``.

    Args:
        root: Data folder.
        fold: Number of the fold; ``all`` trains and validates on every case, and leaves none to test without labelsTs.
        unlabelled: ``test`` is ``imagesTs`` even without labels, to predict them.
        outside: Files that ``dataset.json`` names may lie outside the folder.
    """

    name = "nnunet"
    files = "dataset.json, imagesTr/<case>_<channel>.nii.gz, labelsTr/<case>.nii.gz"
    order = -1
    channels_in_file = 1

    def __init__(self, root: Path, fold: int | str = 0, unlabelled: bool = False, outside: bool = False) -> None:
        super().__init__(root)
        if fold != "all" and (type(fold) is not int or fold < 0):
            raise UserError(f"dataset.format_options.fold is {fold!r}, expected 0, 1 and so on, or 'all'")
        self.fold, self.unlabelled, self.outside = fold, unlabelled, outside
        self.where = root / "dataset.json"
        self.content = read_json(self.where, dict)
        names = typed(self.content.get("channel_names", self.content.get("modality")), dict, f"{self.where}: channels")
        self.channel_names = {number: str(name) for number, name in names.items()}
        self.ending = self.content.get("file_ending", ".nii.gz" if "modality" in self.content else None)
        if self.ending not in _IMAGES + _VOLUMES:
            raise UserError(
                f"{self.where}: file_ending is {self.ending!r}, expected one of {', '.join(_VOLUMES + _IMAGES)}. "
                "Convert the files"
            )

    @classmethod
    def holds(cls, root: Path, split: str) -> bool:
        path = root / "dataset.json"
        folders = any((root / name).is_dir() for name in ("imagesTr", "imagesTs"))
        return path.is_file() and (folders or "dataset" in read_json(path, dict))

    def told(self) -> dict[str, Any]:
        content = {"channel_names": self.channel_names, **labels_of(self.content, self.where)}
        return parts_of_json(content, str(self.where)) | (
            {} if self.ending in _IMAGES else {"orientation": ORIENTATION}
        )

    def default_intensity(self, channel: str) -> Intensity:
        """nnU-Net's rule for a channel of this name."""
        if channel.casefold() == "ct":
            rules = dict.fromkeys(self.channel_names.values(), "'ZScore'")
            if len(rules) < len(self.channel_names):
                raise UserError(f"{self.where}: give each channel a name of its own, for the config to say their rules")
            rules[channel] = "dict(type='Window', low=-160, high=240)"
            example = ", ".join(f"{name!r}: {rules[name]}" for name in rules)
            raise UserError(
                f"{self.where} names the channel {channel}: which Hounsfield units become 0 and 1 is for the config to "
                f"say, as in dataset.spec=dict(channels={{{example}}}), or for nnU-Net's plans, with --from-plans"
            )
        return _RULES.get(channel.casefold(), ZScore())

    @property
    def has_test(self) -> bool:
        """Whether there are test cases beside those of the folds, with their labels."""
        return all((self.root / name).is_dir() for name in ("imagesTs", "labelsTs"))

    @property
    def has_folds(self) -> bool:
        """Whether the training cases can be split into folds."""
        return (self.root / "splits_final.json").is_file() or len(self._training()) >= FOLDS

    def find(self, split: str) -> list[Case]:
        if split == "test" and (self.unlabelled or self.has_test):
            cases = self._folder("Ts", self.unlabelled)
        else:
            training = self._training()
            chosen = self._fold(list(training))[split]
            cases = {name: files for name, files in training.items() if name in chosen}
        if not cases:
            option = ". To predict imagesTs say dataset.format_options=dict(unlabelled=True)" * (split == "test")
            raise UserError(f"{self.root}: no case is in the {split} split of fold {self.fold}{option}")
        if self.ending in _VOLUMES:
            return volume_cases(cases, self.root, self, self.channels_in_file)
        return [Case(name, 1, slices=(files,), labelled=files[1] is not None) for name, files in cases.items()]

    def load(self, source: Files) -> Raw:
        if self.ending in _VOLUMES:
            return read_volume(*source)
        channels, label = source
        planes = [read_pixels(path, len(self.spec.channels) if len(channels) == 1 else 1) for path in channels]
        if len(sizes := {plane.shape for plane in planes}) > 1:
            raise UserError(f"{channels[0]} and the other channels of the case differ in size: {sorted(sizes)}")
        return Raw(np.concatenate(planes), None if label is None else opened(label, read_label))

    def _training(self) -> dict[str, Files]:
        """All labelled cases, sorted by their names."""
        cases = self._training_files()
        count = self.content.get("numTraining", len(cases))
        with self.skipping():
            if count != len(cases) and not self.problems:
                raise UserError(
                    f"{self.where}: numTraining is {count}, but {len(cases)} cases are there. Correct the number, or "
                    "copy the data again"
                )
        return dict(sorted(cases.items()))

    def _training_files(self) -> dict[str, Files]:
        mapping = self.content.get("dataset")
        return self._folder("Tr") if mapping is None else self._mapped(mapping)

    def _folder(self, part: str, unlabelled: bool = False) -> dict[str, Files]:
        """Cases of a folder of images and one of labels."""
        folder = self.root / f"images{part}"
        named = re.compile(rf"(.+)_(\d{{4}}){re.escape(self.ending)}")
        channels: dict[str, dict[int, Path]] = defaultdict(dict)
        for path in visible(folder.glob(f"*{self.ending}")):
            if not (match := named.fullmatch(path.name)):
                example = f"{path.name.removesuffix(self.ending)}_0000{self.ending}"
                raise UserError(f"{path}: expected <case>_<channel>{self.ending}, as in {example}")
            channels[match[1]][int(match[2])] = path
        if not channels:
            raise UserError(f"{folder} holds no file *{self.ending}")
        cases: dict[str, Files] = {}
        for name, numbered in sorted(channels.items()):
            label = self.root / f"labels{part}" / f"{name}{self.ending}"
            with self.skipping():
                self._check_channels(name, sorted(numbered))
                if not (label.is_file() or unlabelled):
                    option = ", or say dataset.format_options=dict(unlabelled=True) to predict without labels"
                    raise UserError(f"{folder}: case {name} has no label {label}. Add it{option * (part == 'Ts')}")
                files = tuple(numbered[channel] for channel in sorted(numbered))
                cases[name] = files, label if label.is_file() else None
        return cases

    def _mapped(self, mapping: Any) -> dict[str, Files]:
        """Cases that ``dataset`` in ``dataset.json`` names, with their files."""
        cases: dict[str, Files] = {}
        for name, entry in typed(mapping, dict, f"{self.where}: dataset").items():
            where = f"{self.where}: dataset: {name}"
            if not is_plain_name(name) or name.startswith("."):
                raise UserError(f"{where}: expected a name without folders")
            with self.skipping():
                entry = typed(entry, dict, where)
                images = typed(entry.get("images"), list, f"{where}: images")
                self._check_channels(name, range(len(images)))
                cases[name] = tuple(self._path(text, where) for text in images), self._path(entry.get("label"), where)
        return cases

    def _path(self, text: Any, where: str) -> Path:
        """A file that ``dataset.json`` names."""
        path = Path(os.path.abspath(self.root / os.path.expandvars(typed(text, str, where))))
        if not (self.outside or path.is_relative_to(os.path.abspath(self.root))):
            raise UserError(
                f"{where} names {text}, which lies outside {self.root}. If it is to be read, say "
                "dataset.format_options=dict(outside=True)"
            )
        if not path.is_file():
            raise UserError(f"{where} names {text}, but there is no file {path}")
        return path

    def _check_channels(self, name: str, known: Sequence[int]) -> None:
        """Refuse a case that lacks a channel; a colour image holds three in one file."""
        count = len(self.channel_names)
        colour = self.ending in _IMAGES and count == 3 and list(known) == [0]
        if not colour and list(known) != list(range(count)):
            raise UserError(
                f"{self.root}: case {name} has the channels {', '.join(f'{number:04d}' for number in known)}, but "
                f"dataset.json names {count}: {', '.join(self.channel_names.values())}"
            )

    def _fold(self, names: Sequence[str]) -> dict[str, Sequence[str]]:
        """Names of the cases of each split."""
        if self.fold == "all":
            return {"train": names, "val": names, "test": []}
        path, number = self.root / "splits_final.json", int(self.fold)
        folds = read_json(path, list) if path.is_file() else five_folds(names)
        if number >= len(folds):
            held = ", ".join(map(str, range(len(folds)))) or f"none, as {path} is empty"
            raise UserError(f"dataset.format_options.fold is {number}, but the folds are {held}")
        where = f"{path}: fold {number}"
        fold = typed(folds[number], dict, where)
        train, val = ([*map(str, typed(fold.get(key), list, f"{where}: {key}"))] for key in ("train", "val"))
        if unknown := sorted({*train, *val} - {*names}):
            raise UserError(f"{where} names {some([*map(repr, unknown)])}, which {self.root} does not hold")
        if both := sorted({*train} & {*val}):
            raise UserError(
                f"{where} has {some(both)} in train and in val: keep each case in one. To train on all cases "
                "say dataset.format_options=dict(fold='all')"
            )
        return {"train": train, "val": val, "test": val}


def five_folds(names: Sequence[str]) -> list[dict[str, list[str]]]:
    """nnU-Net's folds of sorted names: scikit-learn's ``KFold(5, shuffle=True, random_state=12345)``."""
    if len(names) < FOLDS:
        raise UserError(
            f"{len(names)} cases cannot be split into nnU-Net's 5 folds. Write splits_final.json, or train on all "
            "cases with dataset.format_options=dict(fold='all')"
        )
    parts = np.array_split(np.random.RandomState(12345).permutation(len(names)), FOLDS)
    held_out = [[names[place] for place in sorted(part)] for part in parts]
    return [{"train": sorted({*names} - {*part}), "val": part} for part in held_out]
