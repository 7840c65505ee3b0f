"""``tools/export.py``: the model of a checkpoint for other programs, proved before it is written."""

from collections.abc import Sequence
from pathlib import Path

from medseg_kd.cli import Parser
from medseg_kd.cli.choices import EXPORT_KINDS


def parser() -> Parser:
    """Its arguments."""
    made = Parser(
        "tools/export.py",
        "Writes the model of a checkpoint (of a distillation the student) for other programs. A graph takes values as "
        "files hold them and gives labels: intensity rules, resizing and decoding are inside. It is compared with the "
        "checkpoint before it is written. predict.py takes the file in place of the checkpoint.",
        ["work_dirs/unet_r18_phantom model.onnx --cases scans/case1.nii.gz"],
    )
    made.add_argument("checkpoint", metavar="CHECKPOINT", help="checkpoint, or run folder (its last checkpoint)")
    kinds = f"file to write, {', '.join(EXPORT_KINDS)} (ONNX, OpenVINO, weights alone)"
    made.add_argument("out", type=Path, metavar="OUT", help=kinds)
    made.add_argument("--cases", nargs="+", default=[], metavar="FILE", help="inputs whose labels are compared, too")
    made.add_argument("--logits", action="store_true", help="keep the logits as second output")
    made.add_argument(
        "--int8", type=Path, metavar="DATA_ROOT", help="quantise to 8 bits, calibrated on the training slices there"
    )
    made.add_argument("--orientation", metavar="LPS", help="as for predict.py")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """``export.py CHECKPOINT OUT``.

    Raises:
        UserError: The checkpoint cannot be used, or what was exported does not give what it gives.
    """
    args = parser().read(argv)
    from medseg_kd.inference.exporting import export

    for line in export(args.checkpoint, args.out, args.cases, args.logits, args.int8, args.orientation):
        print(line)
    print(f"written to {args.out}")
