"""``tools/predict.py``: masks of volumes and images, from a checkpoint alone."""

import sys
from collections.abc import Sequence
from pathlib import Path

from medseg_kd.cli import Parser
from medseg_kd.cli.prediction_arguments import add_prediction_arguments
from medseg_kd.errors import FailedRunError


def parser() -> Parser:
    """Its arguments."""
    made = Parser(
        "tools/predict.py",
        "Writes masks of volumes (NIfTI, MHA, NRRD), DICOM series, prepared cases (h5, npz) and images (PNG, JPEG, "
        "BMP, TIFF). They lie on the grid of their input; labels.json, labels.txt (ITK-SNAP) and labels.ctbl (Slicer) "
        "beside them name the classes. Nothing in a checkpoint is run as code.",
        ["work_dirs/unet_r18_phantom scans/ more/case7.nii.gz --out masks"],
    )
    made.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="checkpoint, run folder (its last checkpoint), exported model, or results folder of nnU-Net",
    )
    made.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="file, folder of files or of a DICOM series, or list of them (.txt)"
    )
    made.add_argument("--device", metavar="NAME", help="such as cuda:1 or cpu (default: a GPU where there is one)")
    read = made.add_argument_group("how inputs are read").add_argument
    read(
        "--orientation",
        metavar="LPS",
        help="directions in which columns, rows and numbers of the slices ran that the model was trained on, where the "
        "data did not tell it",
    )
    read("--series", metavar="UID", help="series to take where a folder holds several")
    add_prediction_arguments(made)
    made.add_argument(
        "--ensemble",
        nargs="+",
        default=[],
        metavar="CHECKPOINT",
        help="further checkpoints of the same images and classes: probabilities are averaged",
    )
    write = made.add_argument_group("what is written").add_argument
    write("--out", type=Path, required=True, metavar="DIR", help="folder of the masks")
    write("--probabilities", action="store_true", help="also <case>.npz: float16, on the grid of the input")
    write("--dicom-seg", action="store_true", help="also a DICOM segmentation of each series (needs highdicom)")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """``predict.py CHECKPOINT INPUT... --out DIR``; exit code 1 where an input could not be predicted.

    Raises:
        UserError: The checkpoint cannot be used, or there is nothing to predict.
    """
    args = parser().read(argv)
    from medseg_kd.inference.export import predict_files
    from medseg_kd.inference.loading import load_predictor

    predictor = load_predictor(args.checkpoint, args.device, args.orientation, args.ensemble, args.tta, args.decode)
    failed = predict_files(predictor, args.inputs, args.out, args.probabilities, args.dicom_seg, args.series)
    for name, reason in failed.items():
        print(f"not predicted: {name}\n  {reason}", file=sys.stderr)
    if failed:
        raise FailedRunError(f"{len(failed)} input(s) could not be predicted, for the reasons above")
