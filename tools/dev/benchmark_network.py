"""``tools/dev/benchmark.py network``: a network beside another implementation of it, in one run."""

import argparse
import copy
import runpy
import statistics
from pathlib import Path
from typing import Any

import torch
from prettytable import PrettyTable
from torch import Tensor, nn

from measuring import add_measuring_arguments, measured_slices
from medseg_kd.configuration import read_config, segmentor_of
from medseg_kd.errors import UserError
from medseg_kd.models.checkpoint import load_weights
from medseg_kd.models.profiling import (
    Step,
    device_name,
    inference_step,
    interleaved_seconds,
    parameter_count,
    peak_memory,
    ratio,
    training_step,
)
from medseg_kd.models.weights import SOURCES
from medseg_kd.registry import MODELS


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.description = (
        "Time and memory of a config's network and of another module in one run, taken in turn: forward and backward "
        "pass, and inference. With --source the other module's weights are converted into ours first and the largest "
        "difference of the logits is printed."
    )
    parser.add_argument("config", help="config whose network is measured")
    parser.add_argument(
        "--beside",
        required=True,
        metavar="FILE:NAME",
        help="a Python file and the function in it that returns the other network, which maps (N, C, H, W) to logits",
    )
    parser.add_argument("--source", choices=SOURCES, help="convert the other network's weights as this source's")
    add_measuring_arguments(parser, size=224, batch=2, repeat=7)
    parser.add_argument("--channels-last", action="store_true", help="both networks in channels_last memory format")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    batch, height, width = measured_slices(arguments)
    device = torch.device(arguments.device)
    torch.manual_seed(0)
    model = MODELS.build(segmentor_of(read_config(arguments.config).model))
    shape = (batch, model.in_channels, height, width)
    ours = model.network.to(device)
    theirs = _other(arguments.beside).to(device)
    layout = torch.channels_last if arguments.channels_last else torch.contiguous_format
    for network in (ours, theirs):
        network.to(memory_format=layout)  # type: ignore[call-overload]
    x = torch.rand(shape, device=device).contiguous(memory_format=layout)
    where = f"{device_name(device)}, PyTorch {torch.__version__}"
    print(f"input {shape}, float32, {where}, {arguments.repeat} runs of each")
    print(f"parameters: ours {parameter_count(ours):,}, theirs {parameter_count(theirs):,}")
    if arguments.source:
        _load(ours, theirs, arguments.source, arguments.beside)
        logits, gradient = _differences(ours, theirs, x)
        print(f"largest difference: logits {logits:.1e}, gradient of the input {gradient:.1e}, of their range")
    print(_table(ours, theirs, x, arguments.repeat, device))


def _other(name: str) -> nn.Module:
    """Call the function that ``FILE:NAME`` names."""
    file, _, function = name.rpartition(":")
    if not Path(file).is_file():
        raise UserError(f"--beside {name}: no such file {file!r}; expected FILE:NAME, such as theirs.py:build")
    names = runpy.run_path(file)
    if not callable(names.get(function)):
        found = [key for key, value in names.items() if callable(value) and not key.startswith("_")]
        raise UserError(f"--beside {name}: {file} has no function {function!r}; it has {', '.join(found) or 'none'}")
    return names[function]()


def _load(ours: nn.Module, theirs: nn.Module, source: str, name: str) -> None:
    """Give both the same weights, with statistics and biases that are not 0 or 1, where a mistake could hide."""
    generator = torch.Generator().manual_seed(0)
    state = copy.deepcopy(theirs.state_dict())
    for key, value in state.items():
        if value.ndim == 1 and value.is_floating_point():
            noise = torch.rand(value.shape, generator=generator).to(value)
            state[key] = noise + 0.5 if key.endswith(("running_var", "weight")) else value + 0.1 * (noise - 0.5)
    theirs.load_state_dict(state)
    load_weights(ours, SOURCES[source].convert(state), name)


def _differences(ours: nn.Module, theirs: nn.Module, x: Tensor) -> tuple[float, float]:
    """Largest difference of the logits, and of the gradient of their squares to ``x``, over the range of theirs."""
    found: list[tuple[Tensor, Tensor]] = []
    for network in (ours, theirs):
        image = x.detach().clone().requires_grad_()
        logits = network.eval()(image)
        logits = logits[0] if isinstance(logits, (tuple, list)) else logits
        (gradient,) = torch.autograd.grad((logits**2).mean(), image)
        found.append((logits.detach(), gradient))
    pairs = zip(*found, strict=True)
    first, second = (float((own - other).abs().max() / (other.max() - other.min())) for own, other in pairs)
    return first, second


def _table(ours: nn.Module, theirs: nn.Module, x: Tensor, repeat: int, device: torch.device) -> PrettyTable:
    """Seconds and bytes of both, and their ratios."""
    table = PrettyTable(["step", "ours", "theirs", "ours / theirs"], align="r")
    table.align["step"] = "l"
    kinds: dict[str, Any] = {"forward + backward": training_step, "inference": inference_step}
    for name, make in kinds.items():
        steps: dict[str, Step] = {"ours": make(ours, x), "theirs": make(theirs, x)}
        seconds = interleaved_seconds(steps, repeat, device)
        median, least, largest = ratio(seconds["ours"], seconds["theirs"])
        cells = [f"{statistics.median(seconds[side]):.3f} s" for side in steps]
        table.add_row([f"{name}, time", *cells, f"{median:.2f} ({least:.2f} to {largest:.2f})"])
        held = [peak_memory(step, device) for step in steps.values()]
        table.add_row([f"{name}, memory", *(f"{each / 2**20:.1f} MiB" for each in held), f"{held[0] / held[1]:.2f}"])
    return table
