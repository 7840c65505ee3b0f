"""The commands: arguments in, one call, messages out."""

import os
import sys
import warnings
from collections.abc import Callable

import torch

from medseg_kd.errors import explanation

# MMCV without compiled operations says so at import; nothing here uses them.
warnings.filterwarnings("ignore", message="Fail to import ``MultiScaleDeformableAttention``")


def run(main: Callable[[], None]) -> None:
    """Call a command's ``main`` and end the process.

    A user's mistake ends with one message on stderr and exit code 2, an interruption with 130, a full GPU or a run that
    failed with 1; any other exception is a defect and keeps its traceback.
    """
    sys.path.append(os.getcwd())  # classes of the user's own, which lie beside train.py, for scripts in tools/ too
    try:
        main()
        _part()
    except KeyboardInterrupt:
        sys.exit(_fail("interrupted", 130))
    except Exception as error:
        if (message := explanation(error)) is None:
            raise
        sys.exit(_fail(message, getattr(error, "exit_code", 1)))


def _part() -> None:
    """End a distributed run together: a process that leaves while another still writes can bring both down."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def _fail(message: str, code: int) -> int:
    """Print an error and pass on the exit code."""
    print(f"error: {message}", file=sys.stderr)
    return code
