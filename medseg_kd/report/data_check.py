"""What a check of a data set found: a table, a summary, JSON."""

import functools
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from medseg_kd.datasets.checks.files import Record
from medseg_kd.datasets.checks.findings import Finding
from medseg_kd.datasets.checks.splits import Part
from medseg_kd.datasets.checks.survey import Survey
from medseg_kd.datasets.pixels import is_black_and_white
from medseg_kd.errors import some

_ROWS = 20
"""Findings of one check that the table shows."""
_WIDTH = 160
"""Columns of the table where there is no terminal."""


def data_check_page(survey: Survey) -> str:
    """The table of findings, then what each split holds."""
    faults = sum(finding.fault for finding in survey.findings)
    folders = {f"{part.reader.root}/" for part in survey.parts}
    parts = [_table(survey.findings, folders)] if survey.findings else []
    parts += [_text(name, of_part) for name, of_part in _summary(survey).items()]
    files = sum(map(len, survey.records.values()))
    parts.append(f"{files} files read: {faults} faults, {len(survey.findings) - faults} warnings")
    return "\n\n".join(parts)


def data_check_json(survey: Survey) -> str:
    """All findings and the summary."""
    return json.dumps({"findings": [asdict(each) for each in survey.findings], "summary": _summary(survey)}, indent=1)


def _table(findings: Sequence[Finding], folders: Iterable[str]) -> str:
    """The findings, their files as they are called in the data folder."""
    lines = box.SQUARE if (sys.stdout.encoding or "").lower().startswith("utf") else box.ASCII
    table = Table("file", "found", "expected", "remedy", show_lines=True, box=lines)
    shown: Counter[str] = Counter()
    for finding in findings:
        shown[finding.check] += 1
        if shown[finding.check] <= _ROWS:
            found = finding.found if finding.fault else f"warning: {finding.found}"
            inside = functools.reduce(lambda where, folder: where.replace(folder, ""), folders, finding.where)
            table.add_row(inside, found, finding.expected, finding.remedy)
    for check, count in shown.items():
        if count > _ROWS:
            table.add_row(f"and {count - _ROWS} more", f"like the {_ROWS} above ({check})", "", "--json lists all")
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = _WIDTH
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip()


def _summary(survey: Survey) -> dict[str, dict[str, Any]]:
    """What each split holds, in plain containers."""
    return {part.name: _of_part(part, survey.records[part.name]) for part in survey.parts}


def _of_part(part: Part, records: Sequence[Record]) -> dict[str, Any]:
    read = [record for record in records if record.shape]
    spacings = np.array([record.spacing for record in read if record.spacing is not None])
    pixels: Counter[int] = Counter()
    for record in read:
        found = record.pixels or {}
        white = is_black_and_white([*found], part.reader.spec)
        pixels.update({min(value, 1): count for value, count in found.items()} if white else found)
    classes = dict(enumerate(part.reader.spec.classes)) or {value: str(value) for value in sorted(pixels)}
    return {
        "folder": str(part.reader.root),
        "format": part.reader.name,
        "cases": len(part.cases),
        "slices": sum(case.size for case in part.cases),
        "sizes": {f"{h}x{w}": n for (h, w), n in Counter(r.shape[-2:] for r in read if r.shape).most_common()},
        "spacing (z, y, x) in mm": [spacings.min(0).tolist(), spacings.max(0).tolist()] if len(spacings) else None,
        "intensities": [min(r.range[0] for r in read), max(r.range[1] for r in read)] if read else None,
        "pixels": {name: pixels[value] for value, name in classes.items()},
    }


def _text(name: str, summary: dict[str, Any]) -> str:
    """A split in a few lines."""
    total = max(sum(summary["pixels"].values()), 1)
    classes = [f"{each} {100 * count / total:.3g} %" for each, count in summary["pixels"].items()]
    lines = [
        f"{name}: {summary['cases']} cases, {summary['slices']} slices ({summary['format']} in {summary['folder']})",
        f"size: {some([f'{size} ({count} files)' for size, count in summary['sizes'].items()]) or 'not known'}",
    ]
    for key in ("spacing (z, y, x) in mm", "intensities"):
        if ends := summary[key]:
            low, high = (" x ".join(f"{each:.4g}" for each in np.atleast_1d(end)) for end in ends)
            lines.append(f"{key}: {low} to {high}" if low != high else f"{key}: {low}")
    lines += [f"pixels: {', '.join(classes)}"] if classes else []
    return "\n  ".join(lines)
