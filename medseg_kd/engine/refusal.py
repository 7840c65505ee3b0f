"""A run that is refused before its first step leaves nothing behind."""

import contextlib
import functools
import shutil
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from torch import nn

from medseg_kd.configuration.consistency import check_training
from medseg_kd.configuration.explaining import LIBRARIES, file_of, is_library
from medseg_kd.errors import UserError, explanation, in_short
from medseg_kd.files import LockedError

_Result = TypeVar("_Result")


@contextmanager
def built_or_nothing(runner: Any, work_dir: str) -> Iterator[None]:
    """Build a runner, which makes its folders and its log; where it cannot be built, they go again.

    Raises:
        UserError: The run folder cannot be made.
    """
    folder = Path(work_dir).absolute()
    try:
        runner.made = [each for each in (folder, *folder.parents) if not each.exists()]
        yield
    except OSError as error:
        _remove_traces(runner)
        if error.filename is None or Path(error.filename) not in (folder, *folder.parents):
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
            if method.__name__ == "train" and isinstance(runner.cfg.get("optim_wrapper"), Mapping):
                check_training(runner.cfg, file_of(runner.cfg))
            return method(runner)
        except LockedError:  # the folder is another's
            raise
        except UserError:
            if not runner.has_stepped:
                _remove_traces(runner)
            raise
        except Exception as error:
            if isinstance(error, OSError) and not isinstance(error, ConnectionError) and error.filename is None:
                error.filename = str(runner.work_dir)  # of a log, whose writer does not tell
            if isinstance(error, OSError) and not runner.has_stepped:
                _remove_traces(runner)
            place = "" if runner.has_stepped or explanation(error) else _place_in_model(runner.bare_model, error)
            if not place:
                raise
            _remove_traces(runner)
            raise UserError(f"{file_of(runner.cfg)}: {place} fails at its first call: {in_short(error)}") from error

    return guarded


def _place_in_model(model: nn.Module, error: BaseException) -> str:
    """The part of a model that PyTorch refuses to compute, or the hook, where no code of the user's own ran in it."""
    names, part, last = {id(module): name for name, module in model.named_modules()}, "", ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        last = frame.f_globals.get("__name__", "")
        module = frame.f_locals.get("self")
        if isinstance(module, nn.Module) and id(module) in names and last.startswith(LIBRARIES):
            part = f"model.{names[id(module)]} ({type(module).__name__})".replace("model. ", "model ")
        elif isinstance(module, Hook) and last.startswith(LIBRARIES):
            part = f"the hook {type(module).__name__}"
        elif not is_library(last):
            part = ""
    return part


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
