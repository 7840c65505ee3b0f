"""Checks of all that was read of a split, and of the images of several splits."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from medseg_kd.datasets.checks.files import Record
from medseg_kd.datasets.checks.findings import Checks, Finding
from medseg_kd.datasets.checks.splits import Part
from medseg_kd.datasets.pixels import mending, unknown_values
from medseg_kd.datasets.spec import unnamed
from medseg_kd.errors import some

SET_CHECKS: Checks[tuple[Part, Sequence[Record]]] = Checks()


@SET_CHECKS.add
def uneven(subject: tuple[Part, Sequence[Record]]) -> Iterator[Finding]:
    """Cases whose slices differ in size, or in spacing."""
    part, records = subject
    for case, own in _by_case(records).items():
        for what, values in (("sizes", [r.shape for r in own]), ("spacings", [r.spacing for r in own])):
            counts = Counter(value for value in values if value is not None)
            if len(counts) > 1:
                found = f"slices of the {what} {some([f'{value} ({count})' for value, count in counts.most_common()])}"
                remedy = "Export all slices of the case alike"
                yield Finding("uneven", f"{part.name}: {case}", found, f"one of these {what}", remedy)


@SET_CHECKS.add
def label_values(subject: tuple[Part, Sequence[Record]]) -> Iterator[Finding]:
    """Values that are no classes, with what becomes of them."""
    part, records = subject
    spec = part.reader.spec
    if not spec.classes:  # nothing tells them: 0, 1, 2 and so on, or black and white
        values = sorted({value for record in records for value in record.pixels or ()})
        if values not in (list(range(len(values))), [0, 255]):
            remedy = mending(values, replace(spec, classes=unnamed(len(values))))
            found = f"values {some([*map(str, values)], 9)}"
            yield Finding("label values", part.name, found, "0, 1, 2 and so on", remedy, False)
        return
    of_files = {r.label_where: list(r.pixels) for r in records if r.pixels and unknown_values(list(r.pixels), spec)}
    if of_files:
        values = sorted({value for own in of_files.values() for value in own})
        found = f"values {some([f'{value:g}' for value in unknown_values(values, spec)])}"
        expected = f"0 to {spec.num_classes - 1} ({', '.join(spec.classes)})"
        yield Finding("label values", some(list(of_files), 3), found, expected, mending(values, spec))


@SET_CHECKS.add
def absent(subject: tuple[Part, Sequence[Record]]) -> Iterator[Finding]:
    """Classes that no pixel has, and cases that are all background."""
    part, records = subject
    labelled = [record for record in records if record.pixels]
    names = {name: value for value, name in enumerate(part.reader.spec.classes)}
    seen = {value for record in labelled for value in record.pixels or ()}
    remedy = "Is this the right label map? Leave a class out that never occurs"
    if labelled and not seen - {0}:
        yield Finding("classes", part.name, "all labels are background", "some of each class", remedy)
        return
    lacking = [name for name, value in names.items() if value not in seen]
    if labelled and lacking and seen != {0, 255}:
        yield Finding("classes", part.name, f"no pixel of {some(lacking)}", "some of each class", remedy, False)
    empty = [case for case, own in _by_case(labelled).items() if not any(v for r in own for v in r.pixels or ())]
    if empty:
        remedy = "Look whether their labels are the right ones"
        yield Finding("classes", part.name, f"only background in {some(empty)}", "labels", remedy, False)


def copies(records: Mapping[str, Sequence[Record]]) -> Iterator[Finding]:
    """Images that are there more than once, in one split or two, whatever their names."""
    first: dict[bytes, Record] = {}
    twice: Counter[tuple[str, str]] = Counter()
    example: dict[tuple[str, str], str] = {}
    everything = [record for each in records.values() for record in each]
    for record in everything:
        for plane in record.planes:
            before = record if plane is None else first.setdefault(plane, record)
            if before.where != record.where:
                pair = f"{before.split}: {before.case}", f"{record.split}: {record.case}"
                twice[pair] += 1
                example.setdefault(pair, f"{record.where} and {before.where}")
    planes = [plane for record in everything for plane in record.planes if plane is not None]
    if len(planes) > 1 and len(set(planes)) == 1:
        yield Finding("copies", everything[0].where, f"all {len(planes)} images are the same", "different images", "")
        return
    for (one, other), count in twice.items():
        found = f"{count} image(s) of {one} again in {other}"
        yield Finding("copies", example[one, other], found, "each image once", "Remove one of the two", one != other)


def _by_case(records: Sequence[Record]) -> dict[str, list[Record]]:
    cases: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        cases[record.case].append(record)
    return cases
