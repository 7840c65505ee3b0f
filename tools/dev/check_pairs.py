"""``tools/dev/check_pairs.py``: every teacher with every student by every method, one training step each."""

import argparse
import itertools
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from medseg_kd.cli import run
from medseg_kd.configs_dir import configs_dir
from medseg_kd.configuration import read_config
from medseg_kd.distill import METHODS, SingleTeacherDistill
from medseg_kd.distill.pair_config import find_method, pair_config
from medseg_kd.errors import UserError
from medseg_kd.registry import MODELS
from model_table import all_configs

_RATE = 1e-3


def main(argv: Sequence[str] | None = None) -> None:
    """Check the combinations and print how many of them work.

    Args:
        argv: the arguments; None takes the command line's.

    Raises:
        UserError: a combination fails; all of them are listed.
    """
    parser = argparse.ArgumentParser(
        prog="check_pairs.py",
        description="Writes the config of each teacher, student and method, builds it and takes one training step: the "
        "loss is finite, each student parameter that feeds a tap gets a gradient, the teacher gets none.",
    )
    parser.add_argument("--configs", nargs="+", help="networks (default: all of the documented ones)")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help=f"({' '.join(METHODS)})")
    parser.add_argument("--size", type=int, default=64, help="height and width of the slices (64)")
    args = parser.parse_args(argv)
    configs = args.configs or all_configs()
    if unknown := [name for name in configs if not (configs_dir().parent / name).is_file()]:
        raise UserError(f"--configs: no such config of the project: {', '.join(unknown)}; expected configs/...")
    combinations = list(itertools.product(configs, configs, args.methods))
    start, failures = time.monotonic(), []
    for index, (teacher, student, method) in enumerate(combinations, start=1):
        name = f"{Path(teacher).stem} -> {Path(student).stem}, {method}"
        try:
            outcome = f"loss {check_pair(teacher, student, method, args.size):.4f}"
        except Exception as error:  # a defect of one combination must not hide those of the others
            outcome = f"FAILED: {type(error).__name__}: {error}"
            failures.append(f"{name}: {outcome}")
        print(f"[{index}/{len(combinations)}] {name}: {outcome}", flush=True)
    minutes = (time.monotonic() - start) / 60
    print(f"{len(combinations) - len(failures)}/{len(combinations)} combinations work ({minutes:.1f} minutes)")
    if failures:
        raise UserError("these do not:\n" + "\n".join(failures))


def check_pair(teacher: str, student: str, method: str, size: int = 64) -> float:
    """Write and build the config of a pair and take one training step on random slices.

    Args:
        teacher: Config of the teacher, one of the project's: ``configs/...``.
        student: Config of the student, likewise.
        method: Name of the method.
        size: Height and width of the slices.

    Returns:
        The sum of all losses.

    Raises:
        UserError: Something is not as it should be.
    """
    torch.manual_seed(0)
    with copied_configs() as root:
        file = root / "configs" / "pair.py"
        recipe = find_method(method)
        if recipe.is_file():
            recipe = root / recipe.relative_to(configs_dir().parent)
        file.write_text(pair_config(recipe, root / teacher, root / student, file, run="none"), encoding="utf-8")
        cfg = read_config(file)
    given = {"teacher": MODELS.build(cfg.model.teacher), "teacher_ckpt": None}
    model: SingleTeacherDistill = MODELS.build({**cfg.model, **given}).train()
    inputs, labels = _batch(model.student.in_channels or 1, model.student.num_classes, size)
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    expected = _feeding(model, inputs, parameters)
    losses = model.loss(inputs, labels)
    total = torch.stack(list(losses.values())).sum()
    if not total.isfinite():
        raise UserError(f"the losses are not finite: {losses}")
    distilled = [value for name, value in losses.items() if name.startswith("distill.")]
    reached = _gradients(torch.stack(distilled).sum(), parameters)
    if differ := reached.keys() ^ expected:
        raise UserError(f"the gradient reaches other parameters than feed the taps: {', '.join(sorted(differ)[:8])}")
    if not all(gradient.isfinite().all() for gradient in reached.values()):
        raise UserError("a gradient is not finite")
    if not any(gradient.any() for gradient in reached.values()):
        raise UserError("the gradient is zero everywhere")
    total.backward()
    if any(parameter.grad is not None for parameter in model.teacher.parameters()):
        raise UserError("the teacher got a gradient")
    torch.optim.SGD(parameters.values(), lr=_RATE).step()
    return float(total)


@contextmanager
def copied_configs() -> Iterator[Path]:
    """A folder that holds a copy of the project's ``configs``, where a pair can be written into it."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(configs_dir(), Path(folder, "configs"), ignore=shutil.ignore_patterns("__pycache__"))
        yield Path(folder)


def _batch(channels: int, classes: int, size: int) -> tuple[Tensor, Tensor]:
    """Two random slices (2, C, H, W) and their labels (2, H, W) uint8; every class is there."""
    labels = torch.arange(2 * size * size).reshape(2, size, size) % classes
    return torch.rand(2, channels, size, size), labels.to(torch.uint8)


def _feeding(model: SingleTeacherDistill, inputs: Tensor, parameters: dict[str, Tensor]) -> set[str]:
    """Names of the student's parameters that what it records depends on, and of the connectors'."""
    recorders = model.distiller.student_recorders
    with recorders.recording():
        model.student.network(inputs)
    tapped = [recorder.get().sum() for recorder in recorders.recorders.values()]
    model.distiller.clear()
    connectors = {name for name in parameters if name.startswith("distiller.connectors.")}
    return connectors | _gradients(torch.stack(tapped).sum(), parameters).keys()


def _gradients(value: Tensor, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gradient of ``value`` to the parameters that it depends on."""
    found = torch.autograd.grad(value, list(parameters.values()), retain_graph=True, allow_unused=True)
    return {name: gradient for name, gradient in zip(parameters, found, strict=True) if gradient is not None}


if __name__ == "__main__":
    run(main)
