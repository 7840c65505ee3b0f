"""What is said where a loss cannot compare what it is given, and the connector that would make it fit."""

from typing import Any

from torch import Tensor

from medseg_kd.errors import UserError


class ShapeError(UserError):
    """Two maps that a loss cannot compare: ``reason`` says what it needs, ``same_size`` whether equal size too."""

    def __init__(self, reason: str, student: Tensor, teacher: Tensor, same_size: bool = False) -> None:
        self.reason = reason
        self.same_size = same_size
        connector = connector_for(student, teacher, same_size)
        advice = f". Bring the student's to the teacher's shape with the connector {connector}" if connector else ""
        super().__init__(f"{reason}, but got student {describe(student)}, teacher {describe(teacher)}{advice}")


def connector_for(student: Any, teacher: Any, same_size: bool = False) -> str:
    """Config, as Python text, of the connector that brings a student's feature to the shape of the teacher's.

    Empty where the two are no maps (N, C, H, W) or nothing has to change; height and width count with ``same_size``.
    """
    if not all(isinstance(x, Tensor) and x.ndim == 4 for x in (student, teacher)):
        return ""
    parts = []
    (channels, *size), (to_channels, *to) = student.shape[1:], teacher.shape[1:]
    if channels != to_channels:
        parts.append(f"dict(type='ConvConnector', in_channel={channels}, out_channel={to_channels})")
    if same_size and size != to:
        if all(own >= other for own, other in zip(size, to, strict=True)):
            parts.append(f"dict(type=torch.nn.AdaptiveAvgPool2d, output_size={tuple(to)})")
        else:
            parts.append(f"dict(type=torch.nn.Upsample, size={tuple(to)}, mode='bilinear')")
    return f"[{', '.join(parts)}]" if len(parts) > 1 else "".join(parts)


def describe(data: Any) -> str:
    """The shape of a record; of a tuple or list those of its items."""
    if isinstance(data, Tensor):
        return str(tuple(data.shape))
    if isinstance(data, (list, tuple)):
        return f"a {type(data).__name__} of {', '.join(map(describe, data)) or 'nothing'}"
    return f"a {type(data).__name__}"
