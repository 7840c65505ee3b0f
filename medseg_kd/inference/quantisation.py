"""Quantisation of a graph to 8 bits, calibrated on training slices, and what it costs in Dice."""

from pathlib import Path

import numpy as np
import onnxruntime.quantization as ort

from medseg_kd.datasets.formats import open_folder
from medseg_kd.datasets.spec import IGNORED
from medseg_kd.datasets.transforms import load_slice
from medseg_kd.errors import UserError, first_line
from medseg_kd.inference.onnx_predictor import OnnxPredictor, as_stored

SLICES = 64
"""Training slices that are looked at: half of them to calibrate, half to compare."""
_QUANTISED = ["Conv", "Add", "Gemm", "MatMul"]
"""Normalisation, attention (MatMul of two activations), resizing and all before and after stay in float32."""
LOST = 0.01
"""Largest loss of Dice."""


def quantise(path: Path, root: Path) -> str:
    """Give a graph 8-bit weights, a scale for each channel, and 8-bit activations, in place; the line to print.

    Args:
        path: The file that :func:`~medseg_kd.inference.onnx_export.write_graph` wrote.
        root: Data folder of images as those that the model was trained on.

    Raises:
        UserError: The folder does not fit, or more than ``LOST`` of the mean Dice on training slices that were not
            calibrated on goes lost.
    """
    float32 = OnnxPredictor(path)
    slices = _training_slices(float32, root)
    prepared = path.with_name(f"{path.stem}.prepared.onnx")
    try:
        ort.quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        ort.quantize_static(
            str(prepared),
            str(path),
            _Calibration([inputs for inputs, _ in slices[::2]]),
            quant_format=ort.QuantFormat.QDQ,
            op_types_to_quantize=_QUANTISED,
            per_channel=True,
            extra_options={"MatMulConstBOnly": True},
        )
    # ONNX Runtime raises what it likes.
    except Exception as error:
        raise UserError(f"the model cannot be quantised to 8 bits: {first_line(error)}") from error
    finally:
        prepared.unlink(missing_ok=True)
    before, after = (_dice(each, slices[1::2]) for each in (float32, OnnxPredictor(path)))
    line = f"8 bits: Dice {100 * after:.2f} on {len(slices[1::2])} training slices, of float32 {100 * before:.2f}"
    if not before - after <= LOST:
        raise UserError(f"8 bits are not enough for this model, and nothing was written: {line}")
    return line


class _Calibration(ort.CalibrationDataReader):
    """Inputs of a graph, one after the other."""

    def __init__(self, inputs: list[dict[str, np.ndarray]]) -> None:
        self.inputs = iter(inputs)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next one; None at the end."""
        return next(self.inputs, None)


def _training_slices(predictor: OnnxPredictor, root: Path) -> list[tuple[dict[str, np.ndarray], np.ndarray]]:
    """Inputs and labels of slices from all training cases."""
    spec = predictor.spec
    own = {"channels": [(channel.name, channel.intensity) for channel in spec.channels], "classes": spec.classes}
    try:
        folder = open_folder(root, "train", spec={**own, "ignore_label": spec.ignore_label})
    except UserError as error:
        raise UserError(f"--int8: not the images that the model was trained on: {error}") from error
    places = [(case, position) for case in folder.find("train") if case.labelled for position in range(case.size)]
    if len(places) < 2:
        raise UserError(f"{root} holds no training slices with labels: expected some, to calibrate on and to compare")
    found = []
    for index in np.unique(np.linspace(0, len(places) - 1, SLICES).astype(int)):
        case, position = places[index]
        info = {"case": case, "position": position, "format": folder, "size": None}
        image, label, _ = load_slice(info, spec.neighbours)
        found.append((predictor.inputs(as_stored(image, spec)[None]), label))
    return found


def _dice(predictor: OnnxPredictor, slices: list[tuple[dict[str, np.ndarray], np.ndarray]]) -> float:
    """Mean Dice of the classes that the slices have, all their pixels taken together."""
    classes = predictor.spec.num_classes
    pairs = np.zeros((classes, IGNORED + 1), np.int64)
    for inputs, label in slices:
        (labels,) = predictor.model.run(["labels"], inputs)[0]
        np.add.at(pairs, (labels, label), 1)
    pairs = pairs[:, :classes]
    true = pairs.sum(0)[1:]
    return float((2 * pairs.diagonal()[1:] / (true + pairs.sum(1)[1:]))[true > 0].mean())
