"""``tools/predict.py``: masks of volumes and images, from a checkpoint alone."""

import sys
from collections.abc import Sequence
from pathlib import Path

from medseg_kd.cli import Parser
from medseg_kd.cli.prediction_arguments import add_prediction_arguments
from medseg_kd.errors import FailedRunError
from medseg_kd.inference.export import predict_files
from medseg_kd.inference.loading import load_predictor


def main(argv: Sequence[str] | None = None) -> None:
    """``predict.py CHECKPOINT INPUT... --out DIR``; exit code 1 where an input could not be predicted.

    Raises:
        UserError: The checkpoint cannot be used, or there is nothing to predict.
    """
    parser = Parser(
        prog="predict.py",
        description="Predict volumes (NIfTI, MHA, NRRD), DICOM series, prepared cases (h5, npz) and images (PNG, JPEG, "
        "BMP, TIFF). Masks lie on the grid of their input; labels.json, labels.txt (ITK-SNAP) and labels.ctbl (Slicer) "
        "beside them name the classes. Nothing in a checkpoint is run as code.",
    )
    parser.add_argument(
        "checkpoint",
        help="checkpoint, run folder (its last checkpoint), file of export.py, or results folder of nnU-Net",
    )
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="file, folder of files or of a DICOM series, or list of them (.txt)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the masks")
    parser.add_argument("--device", help="such as cuda:1 or cpu (default: a GPU where there is one)")
    parser.add_argument(
        "--orientation",
        metavar="LPS",
        help="of the slices that the model was trained on, where their data did not tell: the directions that their "
        "columns, rows and numbers run to",
    )
    parser.add_argument(
        "--ensemble",
        nargs="+",
        default=[],
        metavar="CHECKPOINT",
        help="further checkpoints of the same images and classes: probabilities are averaged",
    )
    add_prediction_arguments(parser)
    parser.add_argument(
        "--probabilities", action="store_true", help="write <case>.npz too: float16, on the grid of the input"
    )
    parser.add_argument(
        "--dicom-seg", action="store_true", help="write a DICOM segmentation of each series too (needs highdicom)"
    )
    parser.add_argument("--series", metavar="UID", help="series to take where a folder holds several")
    args = parser.parse_args(argv)
    predictor = load_predictor(args.checkpoint, args.device, args.orientation, args.ensemble, args.tta, args.decode)
    failed = predict_files(predictor, args.inputs, args.out, args.probabilities, args.dicom_seg, args.series)
    for name, reason in failed.items():
        print(f"not predicted: {name}\n  {reason}", file=sys.stderr)
    if failed:
        raise FailedRunError(f"{len(failed)} input(s) could not be predicted, for the reasons above")
