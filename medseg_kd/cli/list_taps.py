"""``tools/list_taps.py``: the modules of a config's model that a recorder can tap, with their shapes."""

from medseg_kd.cli import Parser
from medseg_kd.configuration import build_model, read_config
from medseg_kd.errors import UserError
from medseg_kd.report.taps import taps_page


def main(argv: list[str] | None = None) -> None:
    """Prints the taps; see ``--help``.

    Raises:
        UserError: The config cannot be read, or the network does not take the size.
    """
    parser = Parser(
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
    print(taps_page(build_model(read_config(args.config)), args.size))
