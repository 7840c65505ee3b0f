"""The commands: arguments in, one call, messages out."""

import argparse
import contextlib
import gc
import io
import logging
import os
import select
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from medseg_kd.errors import did_you_mean, explanation
from medseg_kd.signals import NO_READER, Stopped, ask_to_end, end_with_parent, handle, interrupt

# MMCV without compiled operations says so at import; nothing here uses them.
warnings.filterwarnings("ignore", message="Fail to import ``MultiScaleDeformableAttention``")


class Parser(argparse.ArgumentParser):
    """A parser of arguments whose errors are one line; an option that is not known is told with the nearest one.

    Args:
        script: What is run, from the repository, such as ``tools/predict.py``.
        description: What it does; wrapped, unless it has lines of its own.
        examples: Arguments that it is called with, shown below its help.
        options: See Python's class.

    Attributes:
        command: What was called in place of the script, such as ``medseg-kd predict``.
    """

    command: str | None = None

    def __init__(self, script: str, description: str, examples: Sequence[str] = (), **options: Any) -> None:
        called = self.command or f"python {script}"
        if examples:
            lines = [f"  {called} {example}" for example in examples]
            options["epilog"] = "\n".join([f"example{'s' * (len(examples) > 1)}:", *lines])
        name = self.command or script.rpartition("/")[2]
        super().__init__(name, description=description, formatter_class=_HelpFormatter, **options)

    def read(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        """The arguments of a command line, by default of this process, in any order.

        After ``--cfg-options`` and its first value what has no ``=`` is none of them.
        """
        words: list[str] = []
        settings: list[str] = []
        in_settings = False
        for word in sys.argv[1:] if argv is None else argv:
            self._check_option(word)
            in_settings = word == "--cfg-options" or (in_settings and not word.startswith("--"))
            is_setting = in_settings and (word == "--cfg-options" or "=" in word or settings[-1] == "--cfg-options")
            (settings if is_setting else words).append(word)
        return self.parse_intermixed_args([*words, *settings])

    def _check_option(self, word: str) -> None:
        """Refuse what no option begins with before argparse misses those that are required."""
        name = word.partition("=")[0]
        known = [option for option in self._option_string_actions if option.startswith("--")]
        if name.startswith("--") and not any(option.startswith(name) for option in known):
            self.error(f"there is no option {name}{did_you_mean(name, known)}")

    def error(self, message: str) -> NoReturn:
        """See Python's class."""
        self.exit(2, f"{self.prog}: error: {message} (--help lists what {self.prog} takes)\n")


class _HelpFormatter(argparse.HelpFormatter):
    """Wraps a text unless it has lines of its own."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


def run(main: Callable[[], None]) -> None:
    """Call a command's ``main`` and end the process.

    A user's mistake ends with one message on stderr and exit code 2, Ctrl-C with 130, SIGTERM with 143, a full GPU or a
    run that failed with 1; where nobody reads the output any more, nothing is said and the code is 141. Any other
    exception is a defect and keeps its traceback.
    """
    sys.path.append(os.getcwd())  # classes of the user's own, which lie beside train.py, for scripts in tools/ too
    _use_streams()
    handle(interrupt)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent(signal.SIGTERM)  # which is torchrun
    try:
        main()
        _part()
    except Stopped as stop:
        sys.exit(_fail(stop.message if stop.signum != NO_READER else "", int(str(stop.code))))
    except KeyboardInterrupt:
        sys.exit(_fail("interrupted", 130))
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _drop_unread():
            sys.exit(128 + NO_READER)
        if (message := explanation(error)) is None:
            raise
        sys.exit(_fail(message, getattr(error, "exit_code", 1)))
    finally:
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            _drop_unread()


def _use_streams() -> None:
    """Make do with streams that are closed, or that nobody reads any more: then the command ends, and says nothing."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        if isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names that the terminal's encoding does not have
    told = logging.Handler.handleError

    def handle_error(handler: logging.Handler, record: logging.LogRecord) -> None:
        if isinstance(sys.exc_info()[1], BrokenPipeError) and _drop_unread():
            ask_to_end(NO_READER)
        else:
            told(handler, record)

    logging.Handler.handleError = handle_error  # type: ignore[assignment, method-assign]


def _drop_unread() -> bool:
    """Write no more to what nobody reads; False where all is read."""
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    for descriptor in (1, 2):
        poll.register(descriptor, 0)
    unread = [descriptor for descriptor, event in poll.poll(0) if event & select.POLLERR]
    for descriptor in unread:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
    return bool(unread)


def _part() -> None:
    """End a distributed run together: a process that leaves while another still writes can bring both down.

    Gloo's threads end with the last that holds their group, such as the model of a runner that is in a cycle. One that
    is left frees a tensor when it gets round to it, which aborts a process whose interpreter has ended by then.
    """
    distributed: Any = sys.modules.get("torch.distributed")  # a command that needs no PyTorch does not wait for it
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        gc.collect()
        distributed.destroy_process_group()


def _fail(message: str, code: int) -> int:
    """Print an error, where there is one to tell, and pass on the exit code."""
    if message:
        with contextlib.suppress(BrokenPipeError):
            print(f"error: {message}", file=sys.stderr)
    return code
