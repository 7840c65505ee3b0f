"""``tools/dev/benchmark.py distill``: what distillation adds to the student's step and the teacher's forward pass."""

import argparse
import statistics
from collections.abc import Callable
from contextlib import nullcontext

import torch
from prettytable import PrettyTable
from torch import Tensor, nn

from measuring import add_measuring_arguments, measured_slices
from medseg_kd.configuration import read_config, segmentor_of
from medseg_kd.distill import METHODS, SingleTeacherDistill
from medseg_kd.models.profiling import Step, device_name, interleaved_seconds, ratio
from medseg_kd.registry import MODELS

_PARTS = "student step + teacher forward"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.description = (
        "Time of one distillation step of each method (losses, backward pass, gradients cleared; no optimizer) over "
        "that of its parts: one step of the student without a teacher and one forward pass of the teacher's network. "
        "All in one run, taken in turn."
    )
    teacher, student = "configs/unet/unet_r50_s4_d8_40k_synapse.py", "configs/unet/unet_r18v1c_d8_40k_synapse.py"
    parser.add_argument("--teacher", default=teacher, metavar="CONFIG", help="(%(default)s)")
    parser.add_argument("--student", default=student, metavar="CONFIG", help="(%(default)s)")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS, help="(all)")
    add_measuring_arguments(parser, size=512, batch=2, repeat=7)
    parser.add_argument("--amp", action="store_true", help="under bf16 autocast")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    batch, height, width = measured_slices(arguments)
    device = torch.device(arguments.device)
    torch.manual_seed(0)
    student, teacher = (
        MODELS.build(segmentor_of(read_config(path).model)).to(device)
        for path in (arguments.student, arguments.teacher)
    )
    shape = (batch, student.in_channels or 1, height, width)
    x = torch.rand(shape, device=device)
    labels = torch.randint(student.num_classes, (batch, height, width), dtype=torch.uint8, device=device)

    def precision() -> torch.autocast | nullcontext:
        return torch.autocast(device.type, torch.bfloat16) if arguments.amp else nullcontext()

    def step_of(model: nn.Module, before: Callable[[], object] = lambda: None) -> Step:
        def step() -> None:
            with precision():
                before()
                losses: dict[str, Tensor] = model(x, labels, mode="loss")
            sum(losses.values()).backward()  # type: ignore[union-attr]
            model.zero_grad(set_to_none=True)

        return step

    @torch.no_grad()
    def teach() -> None:
        teacher.network(x)

    student.train()
    steps = {_PARTS: step_of(student, teach)}
    for name in arguments.methods:
        model = SingleTeacherDistill(student, teacher, dict(type=METHODS[name])).to(device).train()
        steps[name] = step_of(model)
    print(
        f"{arguments.teacher} -> {arguments.student}: {tuple(x.shape)}, {'bf16' if arguments.amp else 'float32'}, "
        f"{device_name(device)}, PyTorch {torch.__version__}, {arguments.repeat} runs of each",
        flush=True,
    )
    seconds = interleaved_seconds(steps, arguments.repeat, device)
    table = PrettyTable(["step", "time", "over its parts"], align="r")
    table.align["step"] = "l"
    for name, taken in seconds.items():
        median, least, largest = ratio(taken, seconds[_PARTS])
        over = "" if name == _PARTS else f"{median:.2f} ({least:.2f} to {largest:.2f})"
        table.add_row([name, f"{statistics.median(taken):.3f} s", over])
    print(table)
