"""Where the time of a config's training step goes: a table of its parts, and the kernels that take longest."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from prettytable import PrettyTable
from torch.profiler import ProfilerActivity, profile

from held_training import held_run
from medseg_kd.cli import run
from medseg_kd.configuration import load_run
from medseg_kd.engine import NativeAmpOptimWrapper, Runner
from medseg_kd.engine.step_times import StepClock, watch
from medseg_kd.models.profiling import device_name, peak_memory


def step(runner: Runner, clock: StepClock) -> None:
    """One iteration of the run's loop."""
    clock.start("data wait")
    batch = next(runner.train_loop.dataloader_iterator)
    clock.begin("hooks and log")
    runner.train_loop.run_iter(batch)
    clock.stop()


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
    clock = StepClock(device, arguments.iterations)
    watch(runner.bare_model, runner.optim_wrapper, clock)
    for _ in range(3 + arguments.iterations):
        step(runner, clock)
    torch.get_device_module(device).synchronize(device)
    taken = clock.read()
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
