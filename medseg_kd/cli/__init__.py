"""The commands: arguments in, one call, messages out."""

import os
import sys
import warnings
from collections.abc import Callable

import torch

from medseg_kd.errors import UserError, first_line

# MMCV without compiled operations says so at import; nothing here uses them.
warnings.filterwarnings("ignore", message="Fail to import ``MultiScaleDeformableAttention``")
_FROM_WORKER = f"{UserError.__module__}.{UserError.__qualname__}: "


def run(main: Callable[[], None]) -> None:
    """Call a command's ``main`` and end the process.

    A user's mistake ends with one message on stderr and exit code 2, an interruption with 130, a full GPU with 1; any
    other exception is a defect and keeps its traceback.
    """
    sys.path.append(os.getcwd())  # classes of the user's own, which lie beside train.py, for scripts in tools/ too
    try:
        main()
        _part()
    except UserError as error:
        # A data-loading process wraps the message into its own traceback.
        sys.exit(_fail(str(error).rpartition(_FROM_WORKER)[2].strip(), 2))
    except KeyboardInterrupt:
        sys.exit(_fail("interrupted", 130))
    except torch.OutOfMemoryError as error:
        advice = "Lower train_dataloader.batch_size or model.slice_batch, or train in 16 bits with --amp"
        sys.exit(_fail(f"the GPU's memory is full: {first_line(error)}\n{advice}", 1))


def _part() -> None:
    """End a distributed run together: a process that leaves while another still writes can bring both down."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def _fail(message: str, code: int) -> int:
    """Print an error and pass on the exit code."""
    print(f"error: {message}", file=sys.stderr)
    return code
