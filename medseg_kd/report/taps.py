"""The modules of a model that a recorder can tap, with their shapes."""

from collections.abc import Sequence
from typing import Any

import torch

from medseg_kd.distill.taps import find_taps

_BATCH = 2  # BatchNorm in training mode needs more than one value a channel.


def taps_page(model: Any, size: Sequence[int] | None = None) -> str:
    """All that can be tapped: of a distillation the student's in training mode, then the teacher's in eval mode.

    Args:
        model: A segmentor, or a distillation.
        size: Height and width of the input; None takes those that the model resizes to, else 512 and 512.

    Raises:
        UserError: The network does not take the size.
    """
    student = getattr(model, "student", model)
    size = size or getattr(student.data_preprocessor, "size", None) or (512, 512)
    inputs = torch.zeros(_BATCH, student.in_channels, *size)
    parts = [f"Shapes for an input of {tuple(inputs.shape)}"]
    parts.append(_table("" if student is model else "student: ", student.train(), inputs))
    parts += [_table(f"{name}: ", teacher, inputs) for name, teacher in getattr(model, "tapped_teachers", {}).items()]
    return "\n\n".join(parts)


def _table(whose: str, model: torch.nn.Module, inputs: torch.Tensor) -> str:
    """Source, type, shape and remark of each tensor that a module of one model gives."""
    rows = []
    for tap in find_taps(model, inputs):
        for record, output in enumerate(tap.outputs):
            for item, shape in output.items():
                remarks = [f"stage {tap.stages[item]} of feature_info"] if item in tap.stages else []
                remarks += [f"record_idx={record}"] if len(tap.outputs) > 1 else []
                remarks += [f"data_idx={item}"] if item is not None else []
                rows.append((tap.source, tap.kind, shape, ", ".join(remarks)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    kind = type(getattr(model, "network", model)).__name__
    return "\n  ".join([f"{whose}{kind}, {'training' if model.training else 'eval'} mode", *lines])
