"""``tools/dev/model_table.py``: what the network of each config costs, as a Markdown table."""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch

from measuring import add_measuring_arguments, measured_slices
from medseg_kd.cli import run
from medseg_kd.configs_dir import configs_dir
from medseg_kd.configuration import read_config, segmentor_of
from medseg_kd.errors import UserError
from medseg_kd.models.profiling import (
    device_name,
    flops,
    inference_step,
    interleaved_seconds,
    parameter_count,
    peak_memory,
    training_step,
)
from medseg_kd.registry import MODELS

_APART = {"_base_", "compare", "demo", "distill", "mmseg_kd"}
_COLUMNS = (
    "Config",
    "Parameters (M)",
    "GFLOPs",
    "Inference (ms)",
    "Inference memory (MiB)",
    "Training step (ms)",
    "Training memory (MiB)",
)
_BEGIN, _END = "<!-- model table -->", "<!-- end of model table -->"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the configs and print the table.

    Args:
        argv: the arguments; None takes the command line's.

    Raises:
        UserError: a config cannot be read, or the file to insert into has no place for the table.
    """
    parser = argparse.ArgumentParser(
        prog="model_table.py",
        description="Parameters, operations, time and memory of each config's segmentor, as a Markdown table. The "
        "segmentor of a distillation config is its student.",
    )
    parser.add_argument("configs", nargs="*", help="configs (default: all of the documented networks)")
    add_measuring_arguments(parser, size=512, batch=1, repeat=5)
    parser.add_argument("--insert", type=Path, metavar="FILE", help=f"put it between {_BEGIN} and {_END} in a file")
    args = parser.parse_args(argv)
    slices = measured_slices(args)
    before, after = _frame(args.insert) if args.insert else ("", "")
    device = torch.device(args.device)
    where = f"{device_name(device)}, PyTorch {torch.__version__}"
    lines = [
        f"{args.batch} slice(s) of {args.size[0]}x{args.size[1]}, float32, {where}.",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        f"| --- |{' ---: |' * (len(_COLUMNS) - 1)}",
    ]
    print("\n".join(lines), flush=True)
    for name in args.configs or all_configs():
        cells = _measure(name, slices, args.repeat, device)
        lines.append(f"| {' | '.join([name, *cells])} |")
        print(lines[-1], flush=True)
    if args.insert:
        args.insert.write_text(before + "\n".join([_BEGIN, "", *lines, "", _END]) + after, encoding="utf-8")


def all_configs() -> list[str]:
    """The configs of the networks as they are documented, each once, by the path that train.py takes."""
    root = configs_dir()
    found = (path.relative_to(root) for path in sorted(root.rglob("*.py")))
    return [f"configs/{path.as_posix()}" for path in found if "synapse" in path.stem and not _APART & set(path.parts)]


def _frame(file: Path) -> tuple[str, str]:
    """What stands before and after the table in a file."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"--insert {file} cannot be read: {error.strerror}.") from error
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise UserError(f"--insert {file}: it has no line {_BEGIN} followed by a line {_END}.")
    return before, after


def _measure(config: str, slices: tuple[int, int, int], repeat: int, device: torch.device) -> list[str]:
    """The cells of one config."""
    settings = segmentor_of(read_config(config).model)
    model = MODELS.build(settings).to(device)
    batch, height, width = slices
    shape = (batch, model.in_channels, height, width)
    with torch.device("meta"):
        operations = flops(MODELS.build(settings), torch.empty(shape))
    x = torch.rand(shape, device=device)
    cells = [f"{parameter_count(model) / 1e6:.2f}", f"{operations / 1e9:.1f}"]
    for make in (inference_step, training_step):
        step = make(model, x)
        (seconds,) = interleaved_seconds({config: step}, repeat, device).values()
        cells += [f"{statistics.median(seconds) * 1e3:.0f}", f"{peak_memory(step, device) / 2**20:.1f}"]
    return cells


if __name__ == "__main__":
    run(main)
