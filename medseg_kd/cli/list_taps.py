"""``tools/list_taps.py``: the modules of a config's model that a recorder can tap, with their shapes."""

from collections.abc import Sequence

from medseg_kd.cli import Parser
from medseg_kd.cli.run_arguments import add_config
from medseg_kd.errors import UserError


def parser() -> Parser:
    """Its arguments."""
    made = Parser(
        "tools/list_taps.py",
        "Prints the modules of a config's model that run in a forward pass: the source that a recorder takes, the "
        "type, and the shape of the output. Of a distillation config the student's, in training mode, then the "
        "teacher's, in eval mode. Where a module returns several tensors, each line has its data_idx; where it runs "
        "several times, its record_idx.",
        ["configs/unet/unet_r18v1c_d8_40k_synapse.py --size 512 512"],
    )
    add_config(made)
    made.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="input size (default: data_preprocessor.size, 512 512 without one)",
    )
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the taps; see ``--help``.

    Raises:
        UserError: The config cannot be read, or the network does not take the size.
    """
    args = parser().read(argv)
    if args.size and min(args.size) < 1:
        raise UserError(f"--size {args.size[0]} {args.size[1]}: both must be at least 1")
    from medseg_kd.configuration import build_model, read_config
    from medseg_kd.report.taps import taps_page

    print(taps_page(build_model(read_config(args.config)), args.size))
