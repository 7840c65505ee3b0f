"""``tools/list_taps.py``: the modules of a config's model that a recorder can tap, with their shapes."""

import argparse

import torch

from medseg_kd.configuration import build_model, read_config
from medseg_kd.distill.taps import Tap, find_taps
from medseg_kd.errors import UserError

_BATCH = 2  # BatchNorm in training mode needs more than one value a channel.


def main(argv: list[str] | None = None) -> None:
    """Prints the taps; see ``--help``.

    Raises:
        UserError: The config cannot be read, or the network does not take the size.
    """
    parser = argparse.ArgumentParser(
        prog="list_taps.py",
        description="Prints the modules of a config's model that run in a forward pass: the source that a recorder "
        "takes, the type, and the shape of the output. Of a distillation config the student's, in training mode, then "
        "the teacher's, in eval mode. Where a module returns several tensors, each line has its data_idx; where it "
        "runs several times, its record_idx.",
    )
    parser.add_argument("config", help="config file, such as configs/unet/unet_r18v1c_d8_40k_synapse.py")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="input size (default: data_preprocessor.size, 512 512 without one)",
    )
    args = parser.parse_args(argv)
    if args.size and min(args.size) < 1:
        raise UserError(f"--size {args.size[0]} {args.size[1]}: both must be at least 1")
    cfg = read_config(args.config)
    model = build_model(cfg)
    student = getattr(model, "student", model)
    size = args.size or getattr(student.data_preprocessor, "size", None) or (512, 512)
    inputs = torch.zeros(_BATCH, student.in_channels, *size)
    print(f"Shapes for an input of {tuple(inputs.shape)}")
    _print("student" if student is not model else "", student.train(), inputs)
    for name, teacher in getattr(model, "tapped_teachers", {}).items():
        _print(name, teacher, inputs)


def _print(whose: str, model: torch.nn.Module, inputs: torch.Tensor) -> None:
    """Print the taps of one model."""
    kind = type(getattr(model, "network", model)).__name__
    print(f"\n{whose and f'{whose}: '}{kind}, {'training' if model.training else 'eval'} mode")
    rows = [row for tap in find_taps(model, inputs) for row in _rows(tap)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _rows(tap: Tap) -> list[tuple[str, str, str, str]]:
    """Source, type, shape and remark of each tensor that a module gives."""
    stage = [] if tap.stage is None else [f"stage {tap.stage} of feature_info"]
    rows = []
    for record, output in enumerate(tap.outputs):
        for item, shape in output.items():
            remarks = [*stage]
            remarks += [f"record_idx={record}"] if len(tap.outputs) > 1 else []
            remarks += [f"data_idx={item}"] if item is not None else []
            rows.append((tap.source, tap.kind, shape, ", ".join(remarks)))
    return rows
