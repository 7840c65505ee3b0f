"""Files that are there whole or not at all."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DRAFT = re.compile(r"^\.([1-9]\d*)-.")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to: what is there when the block ends becomes ``path``.

    A reader never sees half of it, and after an error or a crash ``path`` is what it was. The name ends as ``path``
    does; missing folders are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{os.getpid()}-{path.name}")
    draft.unlink(missing_ok=True)  # a link of that name is not written through
    try:
        yield draft
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, see :func:`whole_file`."""
    with whole_file(path) as draft:
        draft.write_text(text, encoding="utf-8")


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_drafts(folder: Path) -> None:
    """Remove what processes that were killed had begun to write in a folder, see :func:`whole_file`."""
    for path in folder.glob(".*"):
        match = _DRAFT.match(path.name)
        if match and (int(match[1]) == os.getpid() or not _lives(int(match[1]))) and not path.is_dir():
            path.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # of another user
    return True
