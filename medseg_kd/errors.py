"""The one exception for a user's mistake, shown as a single message without a traceback, and the words of messages."""

import difflib
import errno
import re
import traceback
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """A wrong input: says what was found, where, what was expected and what to do."""

    exit_code = 2


class FailedRunError(UserError):
    """One of several runs failed; the message ends with the end of its log."""

    exit_code = 1


class WriteError(UserError, OSError):
    """What was to be kept cannot be written; the input is right."""

    exit_code = 1


_FROM_WORKER = f"{UserError.__module__}.{UserError.__qualname__}: "


_LOST_WORKER = re.compile(r"DataLoader worker \((?:pid (\d+)\) is killed|pid\(s\) ([\d, ]+)\) exited)")


def explanation(error: BaseException) -> str | None:
    """What a user is told of an error in place of its traceback; None for a defect, which needs it."""
    if isinstance(error, UserError):
        # A data-loading process wraps the message into its own traceback.
        return str(error).rpartition(_FROM_WORKER)[2].strip()
    if type(error).__name__ == "OutOfMemoryError":  # PyTorch's
        return (
            f"the GPU's memory is full: {first_line(error)}\n"
            "Lower train_dataloader.batch_size or model.slice_batch, or train in 16 bits with --amp"
        )
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return f"memory is full: {first_line(error)}. Lower batch_size, model.slice_batch or the size of the images"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full: {error}. Free some disk space or choose another --work-dir"
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
        return f"{error}. Check the path, its permissions and the disk, or choose another place"
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # pathlib's, before Python 3.13
        return f"{error}: a link that leads to itself. Take it out of the folder"
    # Its end shows as PyTorch's message or, where that comes later, as a pipe that nobody writes to any more.
    lost = _LOST_WORKER.search(str(error))
    if lost or isinstance(error, ConnectionResetError) or (isinstance(error, EOFError) and _is_of_a_pipe(error)):
        pid = f" (pid {lost[1] or lost[2]})" if lost else ""
        return (
            f"a loading process{pid} was killed or ended without a word. Mostly memory is full: "
            "lower num_workers of the loader, raise --shm-size of a container, or set num_workers=0 to see what the "
            "data set does"
        )
    if type(error).__name__ in ("DistNetworkError", "DistStoreError"):  # PyTorch's
        return (
            f"the processes cannot meet at MASTER_ADDR and MASTER_PORT: {first_line(error)}\n"
            "Choose a free port, by torchrun --master-port or in the environment, and an address that all can reach"
        )
    if "Connection closed by peer" in str(error) or "Connection reset by peer" in str(error):
        return "another process of this run has ended; what it printed last tells why"
    return None


def _is_of_a_pipe(error: BaseException) -> bool:
    """Whether an error was raised while another process was listened to."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(frame.f_globals.get("__name__", "").startswith("multiprocessing.") for frame in frames)


def some(names: Sequence[str], limit: int = 5) -> str:
    """The first names of a list, and how many more there are, for a message."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its type where it has none."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def in_short(error: BaseException) -> str:
    """The first line of an error's message, with its type where that says more than that it is an error."""
    says_all = isinstance(error, (ValueError, TypeError, AssertionError, RuntimeError)) or not str(error)
    return first_line(error) if says_all else f"{type(error).__name__}: {first_line(error)}"


def last_line(error: BaseException) -> str:
    """The last line of an error's message, where libraries written in C++ say what happened; its type without one."""
    return next(reversed(str(error).strip().splitlines()), "").strip() or type(error).__name__


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "", in_lines: bool = False) -> str:
    """The end of a message about an unknown name: ``; did you mean a or b?``, or ``otherwise`` where none is near.

    ``in_lines`` gives each known name a line of its own, for long ones.
    """
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    if not near:
        return otherwise
    return "; did you mean" + ("".join(f"\n    {each}" for each in near) if in_lines else f" {' or '.join(near)}?")
