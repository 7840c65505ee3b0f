"""A run that is refused before its first step leaves nothing behind."""

import contextlib
import functools
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from mmengine.device import get_device
from mmengine.dist import is_main_process

from medseg_kd.configuration.explaining import file_of
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

    loop = f"_{method.__name__}_loop"

    @functools.wraps(method)
    def guarded(runner: Any) -> _Result:
        try:
            if getattr(runner, loop) is None:
                what = method.__name__
                raise UserError(f"{file_of(runner.cfg)} has no {what}_cfg, {what}_dataloader and what goes with them")
            _check_precision(runner, method.__name__)
            return method(runner)
        except LockedError:  # the folder is another's
            raise
        except UserError:
            if not runner.has_stepped:
                _remove_traces(runner)
            raise

    return guarded


def _check_precision(runner: Any, task: str) -> None:
    """Refuse fp16 on a CPU, which does not compute in it."""
    asked = {f"{each}_cfg.fp16": (runner.cfg.get(f"{each}_cfg") or {}).get("fp16") for each in ("val", "test")}
    wrapper = runner.cfg.get("optim_wrapper")
    dtype = wrapper.get("dtype") if isinstance(wrapper, Mapping) else None
    asked["optim_wrapper.dtype='float16'"] = str(dtype) in ("float16", "torch.float16")
    used = {"train": ("val_cfg", "optim_wrapper"), "val": ("val_cfg",), "test": ("test_cfg",)}[task]
    for key, value in asked.items():
        if value and key.startswith(used) and get_device() == "cpu":
            raise UserError(
                f"{file_of(runner.cfg)}: {key} asks for fp16, which a CPU does not compute in: leave it out, or train "
                "with --amp, which takes what the device has"
            )


def _remove_traces(runner: Any) -> None:
    """Remove what a runner has written so far, and the folders that it made, where nothing else is in them."""
    if not is_main_process():
        return
    for part in filter(None, (getattr(runner, name, None) for name in ("logger", "visualizer"))):
        type(part)._instance_dict.pop(part.instance_name, None)  # the next run of this process gets its own
        for handler in getattr(part, "handlers", ()):
            handler.close()
    if hasattr(runner, "_log_dir"):
        shutil.rmtree(runner.log_dir, ignore_errors=True)
    if runner.dumped is not None:
        runner.dumped.unlink(missing_ok=True)
    for folder in runner.made:
        with contextlib.suppress(OSError):
            folder.rmdir()
