"""OpenVINO's form of a graph (.xml, its weights beside it in .bin): written from an ONNX file, and run as one."""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from medseg_kd.datasets.spec import DataSpec
from medseg_kd.errors import UserError, WriteError, last_line

_SPEC, _WEIGHTS = ["medseg_kd", "spec"], ["medseg_kd", "weights"]
"""Keys of the runtime information: the spec's JSON form, and the SHA-256 of the .bin."""


def write_openvino(graph: Path, path: Path, spec: DataSpec) -> None:
    """Convert an ONNX file in float32.

    Raises:
        UserError: OpenVINO is not installed, or cannot compute a part of the graph, or not as exactly as it has to be.
        WriteError: The disk is full.
    """
    openvino = load_openvino()
    try:
        model = openvino.Core().read_model(graph)
    except RuntimeError as error:
        raise UserError(f"the graph cannot be converted to OpenVINO: {last_line(error)}") from error
    operators = model.get_ops()
    is_double = any(out.get_element_type() == openvino.Type.f64 for each in operators for out in each.outputs())
    # At some sizes of an input that gives other labels, at others the same: no comparison would show it.
    if is_double or any(each.get_attributes().get("antialias") for each in operators):
        setting = "dataset.size" if is_double else "data_preprocessor.size"
        raise UserError(
            f"the model resizes its slices ({setting}), for which OpenVINO lacks 64-bit numbers and antialiasing: its "
            "labels would be others. Choose a name that ends in .onnx"
        )
    model.set_rt_info(json.dumps(spec.to_json()), _SPEC)
    try:
        openvino.save_model(model, path, compress_to_fp16=False)
        model.set_rt_info(_digest(path), _WEIGHTS)
        openvino.save_model(model, path, compress_to_fp16=False)
        openvino.Core().read_model(path)  # whole, as after a full disk it would not be
    except RuntimeError as error:
        raise WriteError(
            f"the OpenVINO model cannot be written: {last_line(error)}. Free some disk space or choose another place"
        ) from error


class OpenVinoSession:
    """Runs a graph in float32, whatever the processor would rather take.

    Args:
        path: The .xml file.
        device: One of OpenVINO's, such as ``cpu``.

    Raises:
        UserError: It cannot be read, is none of ``tools/export.py``, or the .bin is that of another model.
    """

    def __init__(self, path: Path, device: str) -> None:
        core = load_openvino().Core()
        if device.upper() not in core.available_devices:
            raise UserError(f"device {device!r} cannot be used: OpenVINO has {', '.join(core.available_devices)}")
        options = {"INFERENCE_PRECISION_HINT": "f32"}
        if (threads := os.environ.get("OMP_NUM_THREADS", "")).isdecimal():  # which PyTorch obeys, too
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            model = core.read_model(path)
            weights = model.get_rt_info(_WEIGHTS).value if model.has_rt_info(_WEIGHTS) else None
            if weights not in (None, _digest(path)):
                raise UserError(f"{path.with_suffix('.bin')} has the weights of another model. Export {path} again")
            self.spec = model.get_rt_info(_SPEC).value if weights else None
            self._compiled = core.compile_model(model, device.upper(), options)
        except RuntimeError as error:
            raise UserError(f"{path} cannot be read by OpenVINO ({last_line(error)}). Export it again") from error

    def run(self, names: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        """The named outputs."""
        found = self._compiled(inputs)
        return [found[name] for name in names]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.with_suffix(".bin").read_bytes()).hexdigest()


def load_openvino() -> Any:
    """The package, which would tell its maker over the network that it was imported."""
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        import openvino
    except ImportError as error:
        raise UserError("OpenVINO is not installed. pip install openvino") from error
    return openvino
