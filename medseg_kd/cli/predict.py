"""``tools/predict.py``: masks of volumes and images, from a checkpoint alone."""

import sys
from collections.abc import Sequence
from pathlib import Path

from medseg_kd.cli import Parser
from medseg_kd.errors import FailedRunError
from medseg_kd.inference import Predictor
from medseg_kd.inference.export import predict_files


def main(argv: Sequence[str] | None = None) -> None:
    """``predict.py CHECKPOINT INPUT... --out DIR``; exit code 1 where an input could not be predicted.

    Raises:
        UserError: The checkpoint cannot be used, or there is nothing to predict.
    """
    parser = Parser(
        prog="predict.py",
        description="Predict volumes (NIfTI, MHA, NRRD), prepared cases (h5, npz) and images (PNG, JPEG, BMP, TIFF). "
        "Masks lie on the grid of their input; labels.json beside them names the classes. Nothing in a checkpoint is "
        "run as code.",
    )
    parser.add_argument("checkpoint", help="checkpoint of train.py, or run folder (its last checkpoint)")
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="file, or folder of files")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the masks")
    parser.add_argument("--device", help="such as cuda:1 or cpu (default: a GPU where there is one)")
    parser.add_argument(
        "--orientation",
        metavar="LPS",
        help="of the slices that the model was trained on, where their data did not tell: the directions that their "
        "columns, rows and numbers run to",
    )
    args = parser.parse_args(argv)
    predictor = Predictor.from_checkpoint(args.checkpoint, args.device, args.orientation)
    failed = predict_files(predictor, args.inputs, args.out)
    for name, reason in failed.items():
        print(f"not predicted: {name}\n  {reason}", file=sys.stderr)
    if failed:
        raise FailedRunError(f"{len(failed)} input(s) could not be predicted, for the reasons above")
