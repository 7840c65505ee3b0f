"""The splits of a data set, found in its folder or named by a config, and everything that is read of them."""

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medseg_kd.datasets.checks.files import Record, read_record
from medseg_kd.datasets.checks.findings import Finding
from medseg_kd.datasets.checks.sets import SET_CHECKS, copies
from medseg_kd.datasets.checks.splits import SPLIT_CHECKS, Part
from medseg_kd.datasets.configured import configured_folders
from medseg_kd.datasets.formats import Images, NNUNet
from medseg_kd.datasets.formats.base import SPLITS, Case, Format, find_format
from medseg_kd.datasets.intensities import Stored, ZScore
from medseg_kd.datasets.spec import Channel, DataSpec, parts_of_config
from medseg_kd.errors import UserError
from medseg_kd.progress import progress
from medseg_kd.signals import LoadingProcess


@dataclass(frozen=True)
class Survey:
    """A data set that was read to its end.

    Args:
        parts: Its splits.
        records: Of all files, by the split's name.
        findings: What is wrong or odd, faults first.
    """

    parts: Sequence[Part]
    records: Mapping[str, Sequence[Record]]
    findings: Sequence[Finding]


def parts_of_folder(root: Path) -> list[Part]:
    """The splits of a folder in any format, files of several of them once; what it does not tell is assumed.

    Raises:
        UserError: There is no such folder, or it holds no split.
    """
    problems: list[UserError] = []
    parts: list[Part] = []
    for split in SPLITS:
        try:
            reader = find_format(root, split)
        except UserError as error:
            problems.append(error)
            continue
        reader.problems = []
        if isinstance(reader, NNUNet) and not reader.has_folds:
            reader.fold = "all"
            if split == "test" and not reader.has_test:
                continue
        parts += _new(_part(reader, split, partial(reader.find, split)), parts)
    if not parts:
        raise problems[0]
    return parts


def parts_of_loaders(datasets: Mapping[str, Mapping[str, Any]]) -> list[Part]:
    """The splits that the data sets of a config read; ``datasets`` has their configs by the names of their loaders."""
    parts: list[Part] = []
    for loader, dataset in datasets.items():
        for folder in configured_folders(dataset):
            folder.reader.problems = []
            name = loader.removesuffix("_dataloader")
            part = _part(folder.reader, name if name == folder.split else f"{name} ({folder.split})", folder.find)
            others = [each for each in parts if not each.name.startswith("train")]
            parts += _new(part, others)
    return parts


def survey(parts: Sequence[Part], workers: int = 0) -> Survey:
    """Read all files and run all checks.

    Args:
        parts: See :func:`parts_of_folder` and :func:`parts_of_loaders`.
        workers: Processes beside this one that read; 0 reads here.
    """
    work = [(part.reader, part.name, *each) for part in parts for each in _sources(part)]
    records: dict[str, list[Record]] = {part.name: [] for part in parts}
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, LoadingProcess(None), (0,)) if workers else None
    try:
        read = (pool.map if pool else map)(_read, work)
        for _, record in zip(progress(work, "reading"), read, strict=True):
            records[record.split].append(record)
    except BrokenProcessPool as error:
        raise UserError("a reading process was killed; mostly memory is full. Take fewer --workers") from error
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)
    findings = SPLIT_CHECKS(parts)
    findings += [finding for part in parts for record in records[part.name] for finding in record.findings]
    for part in parts:
        findings += SET_CHECKS((part, records[part.name]))
    findings += copies(records)
    return Survey(parts, records, sorted(findings, key=lambda finding: not finding.fault))


def _read(work: tuple[Any, ...]) -> Record:
    return read_record(*work)


def _part(reader: Format, name: str, find: Callable[[], Sequence[Case]]) -> Part:
    """The cases of a split, as far as they can be found; the reader keeps what is wrong with the others."""
    cases: tuple[Case, ...] = ()
    with reader.skipping():
        cases = tuple(find())
    if not hasattr(reader, "spec"):
        _assume(reader, cases)
    return Part(name, reader, cases)


def _assume(reader: Format, cases: Sequence[Case]) -> None:
    """Give a reader what the folder does not tell: colours as they are, any range of values, no names of classes."""
    told = {"channels": reader.channels or (Channel("image", ZScore()),), "classes": (), **reader.told()}
    channels = []
    for channel in told["channels"]:
        try:
            known = not isinstance(channel.intensity, Stored)
            channels.append(channel if known else Channel(channel.name, reader.default_intensity(channel.name)))
        except UserError:  # only a config can tell it
            channels.append(Channel(channel.name, ZScore()))
    reader.spec = DataSpec(**{**told, "channels": tuple(channels)})
    if isinstance(reader, Images) and cases and "channels" not in reader.told():
        with suppress(UserError):  # told when it is read again
            try:
                image = reader.load(cases[0].slices[0]).image
            except UserError:
                reader.spec = replace(reader.spec, **parts_of_config({"channels": "RGB"}, ""))
                image = reader.load(cases[0].slices[0]).image
            if image.dtype != np.uint8:
                reader.spec = replace(
                    reader.spec, channels=tuple(Channel(c.name, ZScore()) for c in reader.spec.channels)
                )


def _sources(part: Part) -> Iterator[tuple[str, int | None, Any]]:
    """Case, number of the slice and source of every file of a split."""
    for case in part.cases:
        if case.volume is not None:
            yield case.name, None, case.volume
        for position, source in enumerate(case.slices):
            yield case.name, case.index(position), source


def _new(part: Part, parts: Sequence[Part]) -> list[Part]:
    """The split, but for one whose files are another's."""
    return [] if part.cases and any(part.cases == each.cases for each in parts) else [part]
