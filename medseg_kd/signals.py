"""Being asked to end: by Ctrl-C, by SIGTERM, by a terminal that is gone."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

NO_READER = 13
"""In place of a signal: nobody reads what is printed any more. The number is that of SIGPIPE, which Python ignores."""
_Handler = Callable[[int, FrameType | None], None]


class Stopped(SystemExit):
    """The process was asked to end; its exit code is that of a process which the signal ended.

    Args:
        signum: The signal, or ``NO_READER``.
        message: For the user.
    """

    def __init__(self, signum: int, message: str = "interrupted") -> None:
        super().__init__(128 + signum)
        self.signum = signum
        self.message = message


class StopRequest:
    """Keeps that the process was asked to end.

    Attributes:
        signum: The signal; 0 while there was none.
        act: What is done at once, where waiting is of no use.
    """

    def __init__(self) -> None:
        self.signum = 0
        self.act: _Handler | None = None

    def __call__(self, signum: int, frame: FrameType | None = None) -> None:
        """Keep the first signal; a second Ctrl-C ends the process at once, in a notebook the cell."""
        if signum == signal.SIGINT and self.signum:
            if hasattr(sys, "ps1"):
                raise KeyboardInterrupt
            end_at_once(signum)
        self.signum = self.signum or signum
        if self.act is not None:
            self.act(signum, frame)


def end_at_once(signum: int, frame: FrameType | None = None) -> None:
    """End this process without cleaning up; its loading processes end with it."""
    os._exit(128 + signum)


def interrupt(signum: int, frame: FrameType | None = None) -> None:
    """End this process in good order; a further Ctrl-C ends it at once.

    Raises:
        Stopped: Always.
    """
    signal.signal(signal.SIGINT, end_at_once)
    raise Stopped(signum)


def handle(handler: _Handler) -> dict[int, Any]:
    """Let ``handler`` have SIGTERM and Ctrl-C, where nothing ignores them.

    Returns:
        What had them before; nothing outside of the main thread, where Python does not let them be handled.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    return {each: signal.signal(each, handler) for each, kept in before.items() if kept not in (signal.SIG_IGN, None)}


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Keep being asked to end for whoever looks, as long as the block runs."""
    request = StopRequest()
    before = handle(request)
    try:
        yield request
    finally:
        for each, kept in before.items():
            signal.signal(each, kept)


def ask_to_end(signum: int) -> None:
    """Do what SIGTERM would do, for another reason."""
    handler = signal.getsignal(signal.SIGTERM)
    if callable(handler):
        handler(signum, None)


def end_with_parent(signum: int = getattr(signal, "SIGKILL", signal.SIGTERM)) -> None:
    """Let the system send a signal to this process when its parent dies, whatever it dies of; on Linux alone."""
    # Here, so that a command can tell that there is no PyTorch.
    from torch.multiprocessing import _prctl_pr_set_pdeathsig  # type: ignore[attr-defined]

    _prctl_pr_set_pdeathsig(signum)
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():  # it was quicker
        end_at_once(signum)


def raise_deaths_once() -> None:
    """Let PyTorch raise that a loading process has died only where no error is being handled, such as that of its end.

    Its handler of SIGCHLD raises for each child that ends after such a death, wherever the program is by then.
    """
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        return
    # Here, so that a command can tell that there is no PyTorch.
    from torch.utils.data._utils.signal_handling import _set_SIGCHLD_handler

    _set_SIGCHLD_handler()  # once in a process
    raising = signal.getsignal(signal.SIGCHLD)
    if callable(raising) and not isinstance(raising, _Unhandled):
        signal.signal(signal.SIGCHLD, _Unhandled(raising))


class _Unhandled:
    """A handler whose errors count only where none is being handled."""

    def __init__(self, raising: _Handler) -> None:
        self.raising = raising

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        handled = sys.exc_info()[1]
        try:
            self.raising(signum, frame)
        except RuntimeError:
            if handled is None:
                raise


class LoadingProcess:
    """Start of a loading process, which ends with its parent, and when that asks for it.

    A terminal, and Slurm, send signals to all processes: they are for the parent, which finishes its step first.

    Args:
        start: What its loader would call.
    """

    def __init__(self, start: Callable[[int], None] | None) -> None:
        self.start = start

    def __call__(self, number: int) -> None:
        """See ``worker_init_fn`` of PyTorch's loader."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if hasattr(signal, "sigwaitinfo"):
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            threading.Thread(target=_obey_parent, daemon=True).start()
        end_with_parent()
        if self.start is not None:
            self.start(number)


def _obey_parent() -> None:
    """End this process when the one that has it load sends SIGTERM; a fork server may have started it."""
    parent = multiprocessing.parent_process()
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != (parent.pid if parent else os.getppid()):
        pass
    os._exit(0)
