"""Soft labels of training slices, from the probabilities of cases that something predicted before."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log
from torch import Tensor

from medseg_kd.datasets.cache import Source, cache_paths, first_writable
from medseg_kd.datasets.checks.splits import Part
from medseg_kd.datasets.formats import Case
from medseg_kd.datasets.formats.base import visible
from medseg_kd.datasets.integrity import paths_of, shown
from medseg_kd.datasets.lying import check_lying, dice, overlaps
from medseg_kd.datasets.pixels import Pixels
from medseg_kd.datasets.stored_probabilities import StoredCase, check_folder, read_stored
from medseg_kd.datasets.transforms import zoom_planes
from medseg_kd.errors import UserError, WriteError, some
from medseg_kd.files import new_array, whole_file
from medseg_kd.progress import progress

_HINT = (
    "Names are those of the training cases. To make the files: nnUNetv2_predict ... --save_probabilities, "
    "nnUNetv2_train ... --npz, or tools/predict.py CHECKPOINT INPUT... --out FOLDER --probabilities"
)


class Labelled(Source, Protocol):
    """What soft labels belong to: a data set of slices with labels."""

    size: tuple[int, int] | None
    cache_dir: str | None

    @property
    def part(self) -> Part: ...


class SoftLabels:
    """The soft labels of all slices of a data set, memory-mapped.

    Args:
        path: A file that :func:`open_soft_labels` has written.
        starts: Name of each case to the place of its first slice.

    Attributes:
        tensor: (M, K, H, W) float16, probabilities of the K classes.
    """

    def __init__(self, path: Path, starts: Mapping[str, int]) -> None:
        self.path, self.starts = path, starts
        # Pages of a private map can be written to, which PyTorch asks of an array; the file stays as it is.
        self.tensor = torch.from_numpy(np.lib.format.open_memmap(path, mode="c"))

    def __reduce__(self) -> tuple[Any, ...]:
        return SoftLabels, (self.path, self.starts)

    def place(self, info: dict[str, Any]) -> int:
        """Index of a slice that a data set describes."""
        return self.starts[info["case_name"]] + info["position"]

    def of(self, info: dict[str, Any]) -> Tensor:
        """(K, H, W) of a slice that a data set describes."""
        return self.tensor[self.place(info)].clone()


def open_soft_labels(data: Labelled, folders: Sequence[Path]) -> SoftLabels:
    """The soft labels of a data set; read from the stored files once, into a file beside the cache of its slices.

    Each case is compared with its stored one: its name, slices, size, spacing and place as far as they are told, and
    whether the labels agree better when they are flipped. The log has the Dice of the first case.

    Args:
        folders: Where the stored files are.

    Raises:
        UserError: A case is missing, or another one.
    """
    cases, spec, where = data.part.cases, data.part.reader.spec, some([*map(str, folders)])
    stored = _match(cases, folders)
    for folder in folders:
        check_folder(folder, spec)
    beside = [file.with_suffix(suffix) for each in stored for file in each for suffix in (".npz", ".pkl", ".nii.gz")]
    files = [*(data.files() or ()), *(file for file in beside if file.is_file())]
    origin = [data.origin(), [(case.name, case.size, case.indices) for case in cases]]
    paths = cache_paths("soft", data.data_root, origin, files, Path(data.cache_dir) if data.cache_dir else None)
    shape = sum(case.size for case in cases), spec.num_classes
    if is_main_process() and not any(_is_whole(path, shape) for path in paths):
        try:
            _write(data, cases, stored, paths)
        except BaseException:
            with suppress(OSError):  # it holds something else
                paths[0].parent.rmdir()
            raise
    barrier()
    if (path := next((each for each in paths if _is_whole(each, shape)), None)) is None:
        raise UserError(f"the soft labels of {data.data_root} were not written: the first process tells why")
    places = accumulate((case.size for case in cases), initial=0)
    soft = SoftLabels(path, {case.name: place for case, place in zip(cases, places, strict=False)})
    if (first := next((case for case in cases if case.labelled), None)) is None:
        print_log(
            f"stored teacher ({where}): no training case has a label to compare it with; read from {path}", "current"
        )
        return soft
    truth, start = np.stack([label for _, label in _slices(data, first)]), soft.starts[first.name]
    told = soft.tensor[start : start + len(truth)].float().argmax(1).numpy()
    score = dice(overlaps(told, truth, spec.num_classes))[0]
    print_log(f"stored teacher ({where}): Dice {score:.1%} on training case {first.name}; read from {path}", "current")
    if score <= 1 / spec.num_classes:
        print_log(
            f"the stored teacher is at chance level: {where} may belong to other images or another class order. The "
            "student will learn its mistakes",
            "current",
            logging.WARNING,
        )
    return soft


def _is_whole(path: Path, shape: tuple[int, int]) -> bool:
    """Whether soft labels of so many slices and classes are there; a disk that failed may have left less."""
    try:
        return np.lib.format.open_memmap(path, mode="r").shape[:2] == shape
    except (OSError, ValueError, EOFError):
        return False


def _match(cases: Sequence[Case], folders: Sequence[Path]) -> list[list[Path]]:
    """The stored files of each case: one of its name, or one for each slice, of the name of the slice's file."""
    found: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"model.teacher.folder: there is no folder {folder}. {_HINT}")
        for path in visible(folder.glob("*.npz")):
            if (other := found.setdefault(path.stem, path)) != path:
                raise UserError(f"model.teacher.folder: {other} and {path} are of one case. Keep one of them")
    matched, missing = [], []
    for case in cases:
        is_whole = case.name in found or case.volume is not None
        names = [case.name] if is_whole else [next(iter(paths_of(each)), Path()).stem for each in case.slices]
        lack = [name for name in names if name not in found]
        missing += [case.name] if len(lack) == len(names) else lack
        matched.append([found[name] for name in names if name in found])
    if missing:
        raise UserError(
            f"model.teacher.folder: {some([*map(str, folders)])} lacks {len(missing)} of the training cases "
            f"({len(cases)}): no {some([f'{name}.npz' for name in missing])}. {_HINT}"
        )
    return matched


def _write(data: Labelled, cases: Sequence[Case], stored: Sequence[Sequence[Path]], paths: Sequence[Path]) -> None:
    """Write the soft labels of all cases to the first place that takes them, once they are seen to belong to them."""
    if (path := first_writable(paths)) is None:
        raise WriteError(f"cannot write soft labels to {paths[-1].parent}. Name a folder in dataset.cache_dir")
    count = sum(case.size for case in cases)
    array: np.ndarray | None = None
    done, together = 0, np.zeros(1, int)
    with whole_file(path) as draft:
        for case, files in zip(progress(cases, "reading stored soft labels, once"), stored, strict=True):
            told, truth = [], []
            for planes, label in _planes(data, case, files):
                if array is None:
                    array = new_array(draft, np.float16, (count, *planes.shape))
                if planes.shape != array.shape[1:]:
                    raise UserError(
                        f"{data.data_root}: slices of case {case.name} are {planes.shape[1:]}, those before it "
                        f"{array.shape[2:]}. Soft labels need one size: set dataset.size"
                    )
                array[done] = planes
                done += 1
                told.append(planes.argmax(0))
                truth.append(label)
            counts = overlaps(np.stack(told), np.stack(truth), data.part.reader.spec.num_classes)
            if case.size > 1:  # of a single slice, chance may decide
                check_lying(counts, f"{files[0]} (case {case.name})")
            together = together + counts
        check_lying(together, f"{stored[0][0].parent} (all cases together)")


def _planes(data: Labelled, case: Case, files: Sequence[Path]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Probabilities (K, H, W) float32 and label of each slice of a case, at the size that slices are read in."""
    spec = data.part.reader.spec
    whole = read_stored(files[0], spec) if files[0].stem == case.name else None
    for position, (pixels, label) in enumerate(_slices(data, case)):
        stored = whole or read_stored(files[position], spec)
        _check_place(stored, pixels, case, 1 if whole is None else case.index(case.size - 1) + 1)
        planes = stored.probabilities[:, case.index(position) if whole else 0].astype(np.float32)
        planes = planes if data.size is None else zoom_planes(planes, data.size, 1)
        planes = planes.clip(0)
        yield planes / planes.sum(0), label


def _slices(data: Labelled, case: Case) -> Iterator[tuple[Pixels, np.ndarray]]:
    """What is read of each slice of a case, and its label at the size that slices are read in."""
    for position in range(case.size):
        pixels = data.part.reader.read_slice(case, position)
        label = pixels.label_or_ignored
        yield pixels, label if data.size is None else zoom_planes(label, data.size, 0)


def _check_place(stored: StoredCase, pixels: Pixels, case: Case, slices: int) -> None:
    """Refuse probabilities on another grid than that of a case, as far as both tell it."""
    shape, size = stored.probabilities.shape[1:], (slices, *pixels.image.shape[1:])
    if shape != size:
        raise UserError(
            f"{stored.path}: probabilities of {shape}, but training case {case.name} has {size} (slices, rows, "
            "columns; the last slice's number counts). Predict the images that the training slices were made from, or "
            "the slices themselves"
        )
    if stored.header is not None:
        known: dict[str, Any] = {} if pixels.spacing is None else {"spacing": pixels.spacing[::-1]}
        known |= {key: (pixels.geometry or {})[key] for key in ("origin", "direction") if pixels.geometry}
        place = replace(stored.header, path=Path(shown(case.volume or case.slices[0])), **known)
        if differ := stored.header.differences(place):
            raise UserError(f"{stored.path} lies elsewhere than training case {case.name}:\n  " + "\n  ".join(differ))
