"""A run that is refused before its first step leaves nothing behind."""

import contextlib
import functools
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from mmengine.dist import is_main_process

from medseg_kd.errors import UserError
from medseg_kd.files import LockedError

_Result = TypeVar("_Result")


@contextmanager
def built_or_nothing(runner: Any, work_dir: str) -> Iterator[None]:
    """Build a runner, which makes its folders and its log; where it cannot be built, they go again.

    Raises:
        UserError: The run folder cannot be made.
    """
    folder = Path(work_dir).absolute()
    runner.made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        yield
    except OSError as error:
        _remove_traces(runner)
        if error.filename is None or folder not in (Path(error.filename).absolute(), *Path(error.filename).parents):
            raise
        raise UserError(f"work_dir {work_dir} cannot be made ({error.strerror}): choose another --work-dir") from error
    except BaseException:
        _remove_traces(runner)
        raise


def done_or_nothing(method: Callable[..., _Result]) -> Callable[..., _Result]:
    """Let a runner's ``train``, ``val`` or ``test`` remove its log where it is refused before its first step."""

    @functools.wraps(method)
    def guarded(runner: Any) -> _Result:
        try:
            return method(runner)
        except LockedError:  # the folder is another's
            raise
        except UserError:
            if not runner.has_stepped:
                _remove_traces(runner)
            raise

    return guarded


def _remove_traces(runner: Any) -> None:
    """Remove what a runner has written so far, and the folders that it made, where nothing else is in them."""
    if not is_main_process():
        return
    for handler in runner.logger.handlers if hasattr(runner, "logger") else ():
        if isinstance(handler, logging.FileHandler):
            handler.close()
    if hasattr(runner, "_log_dir"):
        shutil.rmtree(runner.log_dir, ignore_errors=True)
    if runner.dumped is not None:
        runner.dumped.unlink(missing_ok=True)
    for folder in runner.made:
        with contextlib.suppress(OSError):
            folder.rmdir()
