"""``tools/export.py``: the model of a checkpoint for other programs, proved before it is written."""

from collections.abc import Sequence
from pathlib import Path

from medseg_kd.cli import Parser
from medseg_kd.inference.exporting import KINDS, export


def main(argv: Sequence[str] | None = None) -> None:
    """``export.py CHECKPOINT OUT``.

    Raises:
        UserError: The checkpoint cannot be used, or what was exported does not give what it gives.
    """
    parser = Parser(
        prog="export.py",
        description="Write the model of a checkpoint (of a distillation the student) for other programs. A graph takes "
        "values as files hold them and gives labels: intensity rules, resizing and decoding are inside. It is compared "
        "with the checkpoint before it is written. predict.py takes the file in place of the checkpoint.",
    )
    parser.add_argument("checkpoint", help="checkpoint of train.py, or run folder (its last checkpoint)")
    parser.add_argument("out", type=Path, metavar="OUT", help=f"file to write: {', '.join(KINDS)}")
    parser.add_argument("--cases", nargs="+", default=[], metavar="FILE", help="inputs whose labels are compared, too")
    parser.add_argument("--logits", action="store_true", help="keep the logits as second output")
    parser.add_argument(
        "--int8", type=Path, metavar="DATA_ROOT", help="quantise to 8 bits, calibrated on the training slices there"
    )
    parser.add_argument("--orientation", metavar="LPS", help="see predict.py")
    args = parser.parse_args(argv)
    for line in export(args.checkpoint, args.out, args.cases, args.logits, args.int8, args.orientation):
        print(line)
    print(f"written to {args.out}")
