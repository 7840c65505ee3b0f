"""The number format that a device computes networks in fastest."""

from collections.abc import Mapping
from typing import Any

import torch

_CPU_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")
"""What PyTorch calls bf16 arithmetic on x86 and on ARM."""


def native_dtype(device: torch.device | str) -> torch.dtype:
    """Lowest precision that the hardware computes in by itself, for networks under autocast.

    On a GPU bf16 where it has that, else fp16, whose range needs a gradient scaler in training. On the CPU bf16 where
    the processor has instructions for it, else float32, since emulation is slow. On any other device float32.
    """
    return _choose(torch.device(device))[0]


def native_dtype_reason(device: torch.device | str) -> str:
    """One line that says which format :func:`native_dtype` takes, and why."""
    dtype, reason = _choose(torch.device(device))
    return f"{str(dtype).removeprefix('torch.')}: {reason}"


def _choose(device: torch.device) -> tuple[torch.dtype, str]:
    """The format and the reason for it."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        with torch.cuda.device(device):
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        if native:
            return torch.bfloat16, f"{name} computes in bfloat16"
        return torch.float16, f"{name} has no bfloat16 of its own"
    if device.type == "cpu":
        found = [name for name in _CPU_INSTRUCTIONS if _cpu_has(name)]
        if found:
            return torch.bfloat16, f"this processor has instructions for bfloat16 ({', '.join(found)})"
        return torch.float32, "this processor has no instructions for bfloat16"
    return torch.float32, f"no lower precision is known to be native on {device.type}"


def _cpu_has(instructions: str) -> bool:
    """Whether the processor has a set of instructions; False too where this version of PyTorch cannot tell."""
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get(instructions, getattr(torch.cpu, f"_is_{instructions}_supported", bool)()))
