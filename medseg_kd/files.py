"""Files that are there whole or not at all, and locks that go with their process."""

import contextlib
import errno
import json
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from medseg_kd.errors import UserError, WriteError

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

_POLL = 0.2
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
"""Of file systems that have no locks: there a lock file is believed."""
_BYTE = 1 << 30
"""What of the file is locked on Windows, where a locked part cannot be read: a byte behind all that is written."""


class LockedError(UserError):
    """Another process holds a lock."""


_DRAFT = re.compile(r"^\.([1-9]\d*)-.")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to: what is there when the block ends becomes ``path``.

    A reader never sees half of it, and after an error or a crash ``path`` is what it was. The name ends as ``path``
    does; missing folders are made.

    Raises:
        WriteError: It cannot be written; what was there before stays.
    """
    draft = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)  # a link of that name is not written through
        try:
            yield draft
            with draft.open("rb+") as file:
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except WriteError:
        raise
    except OSError as error:
        place = path if error.filename is None else Path(error.filename)
        if place not in (draft, path, *path.parents):  # of another file that was read meanwhile
            raise
        raise WriteError(
            f"cannot write {path}: {error.strerror}. Free some disk space or choose another place"
        ) from error


@contextmanager
def nothing_new(folder: Path) -> Iterator[None]:
    """Remove a folder, and those around it, that were made in a block which ends with an error."""
    made = [each for each in (folder.absolute(), *folder.absolute().parents) if not each.exists()]
    try:
        yield
    except BaseException:
        if made:
            shutil.rmtree(made[-1], ignore_errors=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file, see :func:`whole_file`."""
    with whole_file(path) as draft:
        draft.write_text(text, encoding="utf-8")


def new_array(path: Path, kind: Any, shape: tuple[int, ...]) -> np.memmap:
    """A new npy file, mapped. A full disk is an error here; later it would end the process."""
    np.lib.format.open_memmap(path, "w+", kind, shape).flush()
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return np.lib.format.open_memmap(path, "r+")


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where the system can.

    Raises:
        WriteError: The disk fails.
    """
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise WriteError(f"cannot write into {folder}: {error.strerror}. Choose another --work-dir") from error
        finally:
            os.close(descriptor)


def remove_drafts(folder: Path) -> None:
    """Remove what processes that were killed had begun to write in a folder, see :func:`whole_file`."""
    for path in folder.glob(".*"):
        match = _DRAFT.match(path.name)
        if not match or path.is_dir():
            continue
        process = int(match[1])
        if sys.platform == "win32" or process == os.getpid() or not _lives(process):
            with contextlib.suppress(PermissionError):  # Windows keeps what a process writes
                path.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    """Whether there is a process of this number, as far as the system tells."""
    if sys.platform == "win32":  # where 0 is no harmless signal
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # of another user
    return True


@contextmanager
def locked(path: Path, wait: bool = False) -> Iterator[str]:
    """Hold a lock file, which names its holder while it is held and is gone afterwards.

    The system lets it go when the process dies, whatever it dies of. Threads of one process do not exclude each other.

    Args:
        path: The file; missing folders are made.
        wait: Until another process lets it go, instead of refusing.

    Yields:
        The holder that died without letting it go, in words; empty where there was none.

    Raises:
        LockedError: Another process holds it; the message names its host, number and start.
        UserError: The file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _take(path, wait)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): choose another folder") from error
    try:
        died = _in_words(_read(descriptor))
        mine = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, json.dumps(mine).encode())
        yield died
    finally:
        os.ftruncate(descriptor, 0)
        with contextlib.suppress(OSError):  # Windows keeps a file that is open; an empty one names nobody
            path.unlink()
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether another process holds a lock file."""
    if not path.exists():
        return False
    try:
        with locked(path):
            return False
    except LockedError:
        return True


def _take(path: Path, wait: bool) -> int:
    """Open a lock file and lock it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
        try:
            free = _lock(descriptor)
            if not free and not wait:
                holder = _in_words(_read(descriptor)) or "another process"
                raise LockedError(
                    f"{path.parent} is in use by {holder}. End it, or choose another folder; if there is no such "
                    f"process any more, delete {path}"
                )
            if free and path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # it was let go, and so removed, in between
        if not free:
            time.sleep(_POLL)


def _lock(descriptor: int) -> bool:
    """Lock an open file, unless another process has."""
    try:
        if "fcntl" in globals():
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            os.lseek(descriptor, _BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return not _may_live(_read(descriptor))
    return True


def _may_live(holder: Any) -> bool:
    """Whether a holder may be there still, as far as this host can tell."""
    if not _in_words(holder) or holder["host"] != socket.gethostname():
        return bool(_in_words(holder))
    return _lives(holder["pid"])


def _read(descriptor: int) -> Any:
    """What a lock file says."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    with contextlib.suppress(ValueError):
        return json.loads(os.read(descriptor, 4096))
    return None


def _in_words(holder: Any) -> str:
    """A holder, for messages; empty where the file names none."""
    if not isinstance(holder, dict) or not {"host", "pid", "since"} <= holder.keys():
        return ""
    return "process {pid} on {host}, which started on {since}".format(**holder)
