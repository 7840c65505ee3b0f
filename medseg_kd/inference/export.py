"""Masks of many files in a folder; a bad one does not stop the rest."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from medseg_kd.errors import UserError, WriteError, first_line
from medseg_kd.evaluation.label_tables import LABEL_TABLES, write_label_tables
from medseg_kd.files import remove_drafts, whole_file
from medseg_kd.inference.cases import case_name, find_cases
from medseg_kd.inference.dicom_seg import load_highdicom, write_segmentation
from medseg_kd.inference.file_predictor import FilePredictor
from medseg_kd.inference.prediction import Prediction, lay_back
from medseg_kd.inference.source import Source
from medseg_kd.mask_files import write_image
from medseg_kd.progress import progress

if TYPE_CHECKING:
    from medseg_kd.inference.case import Keep


def predict_files(
    predictor: FilePredictor,
    inputs: Sequence[str | Path],
    out: Path,
    probabilities: bool = False,
    dicom_seg: bool = False,
    series: str | None = None,
) -> dict[str, str]:
    """Write ``<out>/<case>.nii.gz`` for each volume or case, ``<case>.png`` for each slice, and the tables of labels.

    Args:
        predictor: Reads an input, and gives its labels.
        inputs: See :func:`~medseg_kd.inference.cases.find_cases`.
        out: Folder, made where it is not there; no input is written over.
        probabilities: Write ``<case>.npz`` too, see :func:`~medseg_kd.inference.probabilities.probabilities_file`.
        dicom_seg: Write ``<case>.dcm`` of each DICOM series too.
        series: UID of the series to take where a folder holds several.

    Returns:
        What could not be predicted, and why: the file of a case to a message.

    Raises:
        UserError: Nothing to predict.
        WriteError: ``out`` cannot be written, as where the disk is full; masks that are there already stay.
    """
    cases = find_cases(inputs, len(predictor.spec.channels))
    if dicom_seg:
        load_highdicom()
    asked = "--dicom-seg" if dicom_seg else "--series" if series else None
    if asked and not any(files[0].is_dir() for files in cases):
        raise UserError(f"{asked}: none of the inputs is the folder of a DICOM series, which it is for")
    lists = (Path(str(each).removeprefix("@")) for each in inputs)
    taken = {file.resolve(): str(file) for file in (*lists, *(file for files in cases for file in files))}
    if own := [name for name in LABEL_TABLES if (out / name).resolve() in taken]:
        raise UserError(f"{out / own[0]} is an input, and would be written over: choose another --out")
    remove_drafts(out)
    failed = {}
    for files in progress(cases, f"predicting into {out}"):
        try:
            name = case_name(files)
            source = predictor.read(files, series=series)
            paths = {"mask": out / f"{name}{'.png' if source.ndim == 2 else '.nii.gz'}"}
            if probabilities:
                paths["probabilities"] = out / f"{name}.npz"
            if dicom_seg and source.slices:
                paths["segmentation"] = out / f"{name}.dcm"
            for path in paths.values():
                if path.resolve() in taken:
                    raise UserError(
                        f"{path} is already that of {taken[path.resolve()]}: choose another --out, or rename one"
                    )
                taken[path.resolve()] = str(files[0])
            _predict(predictor, source, paths)
        except WriteError:
            raise
        except UserError as error:
            failed[str(files[0])] = str(error)
        # Networks and libraries raise what they like for an input of a size that they do not take, or of no memory.
        except Exception as error:
            failed[str(files[0])] = f"{type(error).__name__}: {first_line(error)}"
    if len(failed) < len(cases):
        write_label_tables(out, predictor.spec.classes)
    return failed


def _predict(predictor: FilePredictor, source: Source, paths: Mapping[str, Path]) -> None:
    """Predict an input, and write what has a path."""
    kept: AbstractContextManager[Keep | None] = nullcontext()
    if "probabilities" in paths:
        from medseg_kd.inference.probabilities import probabilities_file

        kept = probabilities_file(paths["probabilities"], source, predictor.outputs)
    with kept as keep:
        predicted = lay_back(predictor.labels(source, keep), source)
    _write(predicted, paths["mask"])
    if "segmentation" in paths:
        write_segmentation(predicted.labels, source.slices, predictor.spec.classes, paths["segmentation"])


def _write(predicted: Prediction, path: Path) -> None:
    """Write a mask, whole or not at all."""
    if predicted.image is not None:
        return write_image(predicted.image, path)
    from PIL import Image

    with whole_file(path) as draft:
        Image.fromarray(predicted.labels).save(draft)
    return None
