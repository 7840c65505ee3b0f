"""What is known not to survive ``torch.compile``."""

from collections.abc import Mapping
from typing import Any

import torch

from medseg_kd.errors import UserError


def check_compilation(options: Any, model: Any, device: torch.device | str) -> None:
    """Refuse to compile what would compute wrong gradients.

    With PyTorch 2.13 the Inductor backend on the CPU gives a distillation step right losses and, with AT, wrong
    gradients for the student's own losses.

    Args:
        options: ``compile`` of a config.
        model: What is to be compiled.
        device: Where it runs.

    Raises:
        UserError: It is a distillation, for Inductor, on the CPU, or one whose weights are measured.
    """
    if options and getattr(model, "is_measured", False):
        raise UserError(
            f"compile is {options!r}, but model.distiller.loss_weight is a GradientShare: some steps measure "
            "gradients, which one compiled step cannot. Leave compile out, or give a number"
        )
    backend = options.get("backend", "inductor") if isinstance(options, Mapping) else "inductor"
    if options and backend == "inductor" and torch.device(device).type == "cpu" and getattr(model, "teachers", ()):
        raise UserError(
            f"compile is {options!r}: on the CPU, PyTorch's Inductor computes wrong gradients for some distillations. "
            "Leave compile out, or set compile=dict(backend='aot_eager')"
        )
