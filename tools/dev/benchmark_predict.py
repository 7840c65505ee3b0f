"""``tools/dev/benchmark.py predict``: from a file to its written mask, for a checkpoint and what was exported of it."""

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from prettytable import PrettyTable

from medseg_kd.errors import UserError
from medseg_kd.evaluation import dice
from medseg_kd.inference.cases import find_cases
from medseg_kd.inference.export import predict_files
from medseg_kd.inference.loading import load_predictor


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.description = (
        "Time from reading a volume to its written mask, and from slices to labels, for several models in turn. "
        "Labels are compared with the first model's, and with the true ones where --labels names them. "
        "OMP_NUM_THREADS holds for all."
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="volume, or folder of volumes")
    parser.add_argument("--models", nargs="+", required=True, metavar="FILE", help="checkpoints and files of export.py")
    parser.add_argument("--labels", type=Path, metavar="DIR", help="folder of the true labels, named as the volumes")
    parser.set_defaults(run=_run)


def _timed(labels: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    """A function whose calls are timed."""

    def call(*arguments: Any) -> Any:
        start = time.process_time()
        result = labels(*arguments)
        seconds.append(time.process_time() - start)
        return result

    return call


def _run(arguments: argparse.Namespace) -> None:
    predictors: dict[str, Any] = {file: load_predictor(file, "cpu") for file in arguments.models}
    cases = find_cases(arguments.inputs, 1)
    seconds, network, scores = (defaultdict[str, list[float]](list) for _ in range(3))
    for file, predictor in predictors.items():
        predictor.labels = _timed(predictor.labels, network[file])
    differing, voxels = dict.fromkeys(predictors, 0), 0
    with tempfile.TemporaryDirectory() as folder:
        for (path,) in [cases[0], *cases]:  # the first one twice: its first time does not count
            masks = {}
            for number, (file, predictor) in enumerate(predictors.items()):
                out, start = Path(folder, f"{path.name}.{number}"), time.process_time()
                if failed := predict_files(predictor, [path], out):
                    raise UserError("\n".join(failed.values()))
                seconds[file].append(time.process_time() - start)
                (written,) = out.glob("*.nii.gz")
                masks[file] = _read(written)
            if len(seconds[file]) == 1:
                continue
            first = masks[arguments.models[0]]
            voxels += first.size
            truth = _read(arguments.labels / path.name) if arguments.labels else None
            for file, mask in masks.items():
                differing[file] += int((mask != first).sum())
                if truth is not None:
                    organs = range(1, predictors[file].spec.num_classes)
                    scores[file].append(statistics.fmean(dice(mask == organ, truth == organ) for organ in organs))
    table = PrettyTable(["model", "file to mask", "slices to labels", "labels that differ", "Dice"], align="r")
    table.align["model"] = "l"
    for file in predictors:
        times = [f"{statistics.fmean(each[file][1:]):.2f} s" for each in (seconds, network)]
        score = f"{100 * statistics.fmean(scores[file]):.2f}" if scores else ""
        table.add_row([Path(file).name, *times, f"{differing[file] / voxels:.1e}", score])
    print(f"{len(cases)} volumes, {voxels} voxels; seconds of the processor for each")
    print(table)


def _read(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
