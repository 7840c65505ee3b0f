"""What names of files tell: cases, slice numbers, lists of a split."""

import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
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
    digits = match["index"] if match else case and "".join(re.findall(r"\d+$", path.stem))
    if not digits:
        raise UserError(f"{path}: the name does not tell case and slice; expected <case>_slice<number>{path.suffix}")
    return case or match["case"], int(digits)


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
    path, content = lists[0], lists[0].read_bytes()
    try:
        text = content.decode("utf-16" if content[:2] in (BOM_UTF16_LE, BOM_UTF16_BE) else "utf-8-sig")
    except UnicodeError as error:
        raise UserError(f"{path} is no text in UTF-8. Save it as UTF-8, one name a line") from error
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if not names:
        raise UserError(f"{path} names nothing. Remove it to take every file of the split, or write it again")
    if wrong := [name for name in names if name in (".", "..") or "/" in name or "\\" in name]:
        raise UserError(f"{path} names {wrong[0]!r}, which is no file name: expected names without folders")
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise UserError(f"{path} names {', '.join(twice[:5])} more than once")
    return names
