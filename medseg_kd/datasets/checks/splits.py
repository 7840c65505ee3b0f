"""Checks that need the names of files alone: quick enough for every start of a run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from medseg_kd.datasets.checks.findings import Checks, Finding
from medseg_kd.datasets.formats.base import Case, Format
from medseg_kd.errors import UserError, some

SPLIT_CHECKS: Checks[Sequence["Part"]] = Checks()
_COMPARED = 8
"""Cases whose images are compared at the start of a run."""


@dataclass(frozen=True)
class Part:
    """A split: what it is called, what reads it, and its cases."""

    name: str
    reader: Format
    cases: tuple[Case, ...]


@SPLIT_CHECKS.add
def left_out(parts: Sequence[Part]) -> Iterator[Finding]:
    """What is wrong with cases that could not be found."""
    told = {str(problem): part for part in parts for problem in part.reader.problems or ()}
    for text, part in told.items():
        yield Finding.of_error("files", UserError(text), [part.reader.root])


@SPLIT_CHECKS.add
def holes(parts: Sequence[Part]) -> Iterator[Finding]:
    """Numbers between the first slice of a case and its last that no slice has."""
    for part in parts:
        around = part.reader.spec.neighbours
        for case in part.cases:
            if case.holes:
                found = f"no slice {some([str(number) for number in case.holes])}"
                expected = f"slices {case.index(0)} to {case.index(case.size - 1)} without a gap"
                remedy = "Add the slices, or leave the case out with dataset.exclude_cases"
                yield Finding("holes", f"{part.name}: {case.name}", found, expected, remedy, bool(around))


@SPLIT_CHECKS.add
def in_both(parts: Sequence[Part]) -> Iterator[Finding]:
    """Cases of one name in two splits."""
    for one, other in combinations(parts, 2):
        if names := shared_names(one, other):
            where = f"{one.name} and {other.name}"
            remedy = "Leave them out of one (dataset.exclude_cases), or rename them if they are other patients"
            yield Finding("both splits", where, f"{some(names)} in both", "other cases", remedy, False)


@SPLIT_CHECKS.add
def without_label(parts: Sequence[Part]) -> Iterator[Finding]:
    """Cases that can be predicted alone."""
    for part in parts:
        if names := [case.name for case in part.cases if not case.labelled]:
            remedy = "Add labels to train on them or to score them"
            yield Finding("labels", part.name, f"no label for {some(names)}", "a label", remedy, False)


def shared_names(one: Part, other: Part) -> list[str]:
    """Names of cases in two splits of one folder."""
    if one.reader.root.resolve() != other.reader.root.resolve():
        return []
    return sorted({case.name for case in one.cases} & {case.name for case in other.cases})


def overlap(one: Part, other: Part) -> tuple[list[str], list[str]]:
    """Of the cases that two splits share by name, those of the same files, and of others those of the same images.

    Of the latter the first few are compared, by the slice in their middle.
    """
    cases = [{case.name: case for case in part.cases} for part in (one, other)]
    pairs = [(cases[0][name], cases[1][name]) for name in shared_names(one, other)]
    same = [a.name for a, b in pairs if (a.volume, a.slices) == (b.volume, b.slices)]
    moved = [(a, b) for a, b in pairs if a.name not in same and a.size == b.size][:_COMPARED]
    return same, [a.name for a, b in moved if np.array_equal(_middle(one, a), _middle(other, b))]


def _middle(part: Part, case: Case) -> np.ndarray:
    """The image of the slice in the middle of a case."""
    return part.reader.read_slice(case, case.size // 2).image
