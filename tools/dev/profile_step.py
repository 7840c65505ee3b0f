"""Where the time of a config's training step goes: a table of its parts, and the kernels that take longest."""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from prettytable import PrettyTable
from torch.profiler import ProfilerActivity, profile

from benchmark_train import held_run
from medseg_kd.cli import run
from medseg_kd.configuration import load_run
from medseg_kd.engine import NativeAmpOptimWrapper, Runner
from medseg_kd.models.profiling import device_name, peak_memory


class Clock:
    """Marks where a part of a step begins: by CUDA events, which are read at the end, else by the CPU's clock."""

    def __init__(self, device: torch.device) -> None:
        self.is_cuda = device.type == "cuda"
        self.marks: list[tuple[str, Any]] = []

    def begin(self, part: str) -> None:
        """From here on it is this part."""
        mark: Any = torch.cuda.Event(enable_timing=True) if self.is_cuda else time.perf_counter()
        if self.is_cuda:
            mark.record()
        self.marks.append((part, mark))

    def milliseconds(self) -> dict[str, float]:
        """Of each part, from the first mark to the last."""
        if self.is_cuda:
            torch.cuda.synchronize()
        taken: dict[str, float] = defaultdict(float)
        for (part, start), (_, end) in zip(self.marks, self.marks[1:], strict=False):
            taken[part] += start.elapsed_time(end) if self.is_cuda else 1e3 * (end - start)
        return taken


def watch(runner: Runner, clock: Clock) -> None:
    """Have the parts of a run's model and optimizer tell when they begin."""
    model: Any = runner.bare_model
    parts = [(model.data_preprocessor, "augmentation")]
    parts += [(getattr(each.model, "network", each.model), "teacher") for each in getattr(model, "teachers", ())]
    parts += [(getattr(student := getattr(model, "student", model), "network", student), "student")]
    for module, part in parts:
        module.register_forward_pre_hook(lambda *_, part=part: clock.begin(part))
        module.register_forward_hook(lambda *_: clock.begin("losses"))
    backward = runner.optim_wrapper.backward

    def timed(loss: torch.Tensor, **options: Any) -> None:
        clock.begin("backward")
        backward(loss, **options)
        clock.begin("optimizer")

    runner.optim_wrapper.backward = timed


def step(runner: Runner, clock: Clock) -> None:
    """One iteration of the run's loop."""
    clock.begin("data wait")
    batch = next(runner.train_loop.dataloader_iterator)
    clock.begin("hooks and log")
    runner.train_loop.run_iter(batch)


def main(argv: Sequence[str] | None = None) -> None:
    """Profile a config's step; ``argv`` None takes the command line's arguments."""
    parser = argparse.ArgumentParser(prog="profile_step.py", description=f"{__doc__} No CUDA graph, no compilation.")
    parser.add_argument("config")
    parser.add_argument("--data-root", default="data/phantom", help="slices in TransUNet's layout (%(default)s)")
    count: dict[str, Any] = dict(type=int, default=20, choices=range(1, 1001), metavar="N")
    parser.add_argument("--iterations", **count, help="that are measured, after three others (20)")
    parser.add_argument("--amp", action="store_true", help="in the precision that the device is fastest in")
    parser.add_argument("--trace", type=Path, help="write a trace for chrome://tracing or Perfetto to this file")
    arguments = parser.parse_args(argv)
    cfg = load_run(arguments.config, data_root=arguments.data_root)
    if arguments.amp:
        cfg.optim_wrapper.type = NativeAmpOptimWrapper
    with tempfile.TemporaryDirectory() as folder:
        report(held_run(cfg, Path(folder), {"cuda_graph": False, "compile": False}), arguments)


def report(runner: Runner, arguments: argparse.Namespace) -> None:
    """Measure and print."""
    device = next(runner.model.parameters()).device
    clock = Clock(device)
    watch(runner, clock)
    for turn in range(-3, arguments.iterations):
        if turn == 0:
            clock.marks.clear()
        step(runner, clock)
    clock.begin("end")
    taken = {part: value / arguments.iterations for part, value in clock.milliseconds().items()}
    total = sum(taken.values())
    table = PrettyTable([f"{Path(arguments.config).stem}, {device_name(device)}", "ms", "share"], align="r")
    table.add_rows([[part, f"{taken[part]:.2f}", f"{taken[part] / total:.1%}"] for part in taken])
    memory = peak_memory(lambda: step(runner, clock), device) >> 20
    images, pixels = runner.train_dataloader.batch_size, runner.bare_model.data_preprocessor.pixels
    print(table)
    print(f"{total:.2f} ms, {1e3 * images / total:.1f} images/s, {pixels / total / 1e3:.2f} Mpx/s, {memory} MB a step")
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if clock.is_cuda else [])]) as seen:
        step(runner, clock)
    order = "self_device_time_total" if clock.is_cuda else "self_cpu_time_total"
    print(seen.key_averages().table(sort_by=order, row_limit=12))
    if arguments.trace:
        seen.export_chrome_trace(str(arguments.trace))


if __name__ == "__main__":
    run(main)
