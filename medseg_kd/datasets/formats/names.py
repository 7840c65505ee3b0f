"""What names of files tell: cases, slice numbers, lists of a split."""

import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable
from pathlib import Path

from medseg_kd.errors import UserError

_SLICE_NAME = re.compile(r"^(?P<case>.+?)_slice_?(?P<index>\d+)$")


def visible(paths: Iterable[Path]) -> list[Path]:
    """Paths in order of their names, without hidden ones (``._case.npz``, ``.DS_Store``)."""
    return sorted(path for path in paths if not path.name.startswith("."))


def numbered(path: Path, case: str | None = None) -> tuple[str, int]:
    """Case and number of a slice; in a folder a case, a number at the end of the name is enough.

    Raises:
        UserError: The name tells neither.
    """
    match = _SLICE_NAME.match(path.stem)
    if match:
        return case or match["case"], int(match["index"])
    digits = re.search(r"(\d+)$", path.stem)
    if case and digits:
        return case, int(digits[1])
    raise UserError(f"{path}: the name does not tell case and slice; expected <case>_slice<number>{path.suffix}")


def tells_slice(path: Path) -> bool:
    """Whether a name has the form ``<case>_slice<number>``."""
    return bool(_SLICE_NAME.match(path.stem))


def listed_names(root: Path, name: str) -> list[str]:
    """Names in the split list ``lists/*/<name>`` of a folder; empty where there is none.

    Raises:
        UserError: Several lists, one that is empty or no text, or names that lead out of the folder.
    """
    lists = visible(root.glob(f"lists/*/{name}"))
    if len(lists) > 1:
        raise UserError(f"{root}: several lists for one split ({', '.join(map(str, lists))}); keep one")
    if not lists:
        return []
    names = [line.strip() for line in _text(lists[0]).splitlines() if line.strip()]
    if not names:
        raise UserError(f"{lists[0]} names nothing. Remove it to take every file of the split, or write it again")
    if wrong := [name for name in names if name in (".", "..") or "/" in name or "\\" in name]:
        raise UserError(f"{lists[0]} names {wrong[0]!r}, which is no file name: expected names without folders")
    if twice := sorted({name for name in names if names.count(name) > 1}) if len({*names}) < len(names) else []:
        raise UserError(f"{lists[0]} names {', '.join(twice[:5])} more than once")
    return names


def _text(path: Path) -> str:
    """Content of a text file in UTF-8 or UTF-16."""
    content = path.read_bytes()
    try:
        return content.decode("utf-16" if content[:2] in (BOM_UTF16_LE, BOM_UTF16_BE) else "utf-8-sig")
    except UnicodeError as error:
        raise UserError(f"{path} is no text in UTF-8. Save it as UTF-8, one name a line") from error
