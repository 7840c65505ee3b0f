"""Masks of many files in a folder; a bad one does not stop the rest."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from medseg_kd.errors import UserError, first_line
from medseg_kd.evaluation.predictions import write_image
from medseg_kd.files import whole_file, write_text
from medseg_kd.inference.prediction import Prediction
from medseg_kd.inference.predictor import Predictor
from medseg_kd.inference.source import IMAGES, PREPARED, VOLUMES
from medseg_kd.progress import progress

_CHANNEL = re.compile(r"(.+)_(\d{4})")


def predict_files(predictor: Predictor, inputs: Sequence[str | Path], out: Path) -> dict[str, str]:
    """Write ``<out>/<case>.nii.gz`` for each volume or case, ``<case>.png`` for each slice, and ``labels.json``.

    Args:
        inputs: Files, and folders of them. Where the model takes several channels, the files of a volume are
            ``<case>_0000`` and so on, as in nnU-Net.
        out: Folder, made where it is not there; no input is written over.

    Returns:
        What could not be predicted, and why: the file of a case to a message.

    Raises:
        UserError: Nothing to predict, or ``labels.json`` cannot be written.
    """
    cases = _cases(inputs, len(predictor.spec.channels))
    try:
        text = json.dumps({"labels": {name: value for value, name in enumerate(predictor.spec.classes)}}, indent=2)
        write_text(out / "labels.json", text + "\n")
    except OSError as error:
        raise UserError(f"cannot write into {out}: {error.strerror}. Choose another --out") from error
    taken = {file.resolve(): str(file) for files in cases for file in files}
    failed = {}
    for files in progress(cases, f"predicting into {out}"):
        try:
            if len(files) > 1 and [_channel(file) for file in files] != [f"{i:04d}" for i in range(len(files))]:
                raise UserError(f"channels {', '.join(map(_channel, files))}: expected 0000, 0001 and so on")
            predicted = predictor(files)
            case = _stem(files[0]).removesuffix("_0000" if len(files) > 1 else "")
            path = out / (case + (".png" if predicted.image is None else ".nii.gz"))
            if path.resolve() in taken:
                raise UserError(
                    f"{path} is already that of {taken[path.resolve()]}: choose another --out, or rename one"
                )
            taken[path.resolve()] = str(files[0])
            _write(predicted, path)
        except UserError as error:
            failed[str(files[0])] = str(error)
        # Networks and libraries raise what they like for an input of a size that they do not take, or of no memory.
        except Exception as error:
            failed[str(files[0])] = f"{type(error).__name__}: {first_line(error)}"
    return failed


def _cases(inputs: Sequence[str | Path], channels: int) -> list[list[Path]]:
    """The files of each case: those that are named, and all that can be read in the folders that are named."""
    files: list[Path] = []
    for path in map(Path, inputs):
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        files += [
            file
            for file in inside
            if file == path or (file.name.lower().endswith((*VOLUMES, *PREPARED, *IMAGES)) and file.name[0] != ".")
        ]
    if not files:
        raise UserError(f"nothing to predict in {', '.join(map(str, inputs))}")
    cases: dict[tuple[Path, str], list[Path]] = {}
    for file in dict.fromkeys(files):
        channel = _CHANNEL.fullmatch(_stem(file)) if channels > 1 and file.name.lower().endswith(VOLUMES) else None
        cases.setdefault((file.parent, channel[1] if channel else file.name), []).append(file)
    return [sorted(case) for case in cases.values()]


def _stem(file: Path) -> str:
    """A file's name without its ending."""
    ending = next((each for each in (*VOLUMES, *PREPARED, *IMAGES) if file.name.lower().endswith(each)), "")
    return file.name[: len(file.name) - len(ending)]


def _channel(file: Path) -> str:
    return _stem(file).rpartition("_")[2]


def _write(predicted: Prediction, path: Path) -> None:
    """Write a mask, whole or not at all."""
    if predicted.image is not None:
        return write_image(predicted.image, path)
    try:
        with whole_file(path) as draft:
            Image.fromarray(predicted.labels).save(draft)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error}. Free some disk space or choose another --out") from error
    return None
