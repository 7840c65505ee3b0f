"""What a network costs: parameters, operations, time and memory."""

import os
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

Step = Callable[[], object]

# PyTorch's profiler reports its own start and stop otherwise; it reads this when it is first used.
os.environ.setdefault("KINETO_LOG_LEVEL", "9")


def parameter_count(network: nn.Module) -> int:
    """Numbers that a network's parameters hold, frozen ones too."""
    return sum(parameter.numel() for parameter in network.parameters())


def flops(network: nn.Module, x: Tensor) -> int:
    """Floating-point operations of one forward pass in eval mode: two for each multiply-add.

    PyTorch's counter: convolutions, matrix products and attention; not norms, activations or resizing. The network and
    the input (N, C, H, W) lie on the meta device: PyTorch does not count the attention of the CPU.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(x)
    return counter.get_total_flops()


def training_step(network: nn.Module, x: Tensor) -> Step:
    """Forward and backward pass, without an optimizer; the outputs' squares stand for a loss."""

    def step() -> None:
        outputs = network(x)
        outputs = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
        sum((output.float() ** 2).mean() for output in outputs).backward()
        network.zero_grad(set_to_none=True)

    network.train()
    return step


def inference_step(network: nn.Module, x: Tensor) -> Step:
    """Forward pass in eval mode without gradients."""

    def step() -> None:
        with torch.no_grad():
            network(x)

    network.eval()
    return step


def interleaved_seconds(steps: Mapping[str, Step], repeat: int, device: torch.device) -> dict[str, list[float]]:
    """Time steps in turn, A B A B ..., so that a machine that slows down slows all of them down.

    Each step runs twice before it counts.

    Returns:
        Wall seconds of each run, by name; the k-th of every list belong together.
    """
    wait = torch.get_device_module(device).synchronize
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(-2, repeat):
        for name, step in steps.items():
            wait(device)
            start = time.perf_counter()
            step()
            wait(device)
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def peak_memory(step: Step, device: torch.device) -> int:
    """The most bytes of tensors that a step held at once, beside what was there before it.

    On a GPU the allocator tells; on the CPU PyTorch's profiler, which sees each allocation.
    """
    step()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    changes = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def device_name(device: torch.device) -> str:
    """The GPU's name, or that it is the CPU and with how many threads."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"


def ratio(ours: list[float], theirs: list[float]) -> tuple[float, float, float]:
    """Median, least and largest of the ratios of runs that belong together."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)
