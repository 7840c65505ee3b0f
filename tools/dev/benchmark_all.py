"""``tools/dev/benchmark.py all``: what a first run on a machine measures, in one file."""

import argparse
import contextlib
import io
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from medseg_kd.datasets.phantom import write_phantom

_TRAINED = (
    "configs/fcn/fcn_r18_d8_40k_synapse.py",
    "configs/unet/unet_r18v1c_d8_40k_synapse.py",
    "configs/medical_seg/transunet_40k_synapse.py",
    "configs/medical_seg/swin_unetr_base_40k_synapse.py",
)


class _Both(io.StringIO):
    """Writes to two streams."""

    def __init__(self, *streams: TextIO) -> None:
        super().__init__()
        self._streams = streams

    def write(self, text: str) -> int:
        for stream in self._streams:
            stream.write(text)
        return len(text)

    def flush(self) -> None:
        for stream in self._streams:
            stream.flush()


def add(parser: argparse.ArgumentParser, command: Callable[[Sequence[str]], None]) -> None:
    """Add the arguments of the subcommand.

    Args:
        parser: Of the subcommand.
        command: Runs another one by its arguments.
    """
    parser.description = (
        "Writes phantom slices and runs, one after the other: train (float32, then the native precision), distill and "
        "data. The tables are printed, and written as Markdown."
    )
    parser.add_argument("--out", type=Path, default=Path("speed.md"), help="(%(default)s)")
    parser.add_argument(
        "--configs", nargs="+", default=_TRAINED, metavar="CONFIG", help="that are trained (%(default)s)"
    )
    parser.add_argument("--size", type=int, default=512, help="height and width of the slices (%(default)s)")
    parser.add_argument("--iterations", type=int, default=40, help="in a block of a training (%(default)s)")
    parser.add_argument("--repeat", type=int, default=9, help="counted runs, of blocks a third (%(default)s)")
    parser.set_defaults(run=lambda arguments: _run(arguments, command))


def _run(arguments: argparse.Namespace, command: Callable[[Sequence[str]], None]) -> None:
    size, repeat = str(arguments.size), str(arguments.repeat)
    with tempfile.TemporaryDirectory() as folder, arguments.out.open("w", encoding="utf-8") as file:
        write_phantom(Path(folder), 4, 1, 16, arguments.size)
        blocks = ["--iterations", str(arguments.iterations), "--blocks", str(-(-arguments.repeat // 3))]
        training = ["train", "--data-root", folder, *blocks, "--configs", *arguments.configs]
        for words in (
            [*training, "--float32"],
            training,
            ["distill", "--size", size, size, "--repeat", repeat],
            ["distill", "--size", size, size, "--repeat", repeat, "--amp"],
            ["data", arguments.configs[0], "--data-root", folder, "--repeat", repeat],
        ):
            file.write(f"## benchmark.py {' '.join(words).replace(folder, 'PHANTOM')}\n\n```text\n")
            with contextlib.redirect_stdout(_Both(sys.stdout, file)):
                command(words)
            file.write("```\n\n")
            file.flush()
    print(f"written to {arguments.out}")
