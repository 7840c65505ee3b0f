"""From a graph of ``tools/export.py`` and an input to a mask; PyTorch is not needed, nor is it imported."""

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from medseg_kd.datasets.intensities import Intensity, Stored
from medseg_kd.datasets.pixels import stack_neighbours, to_pixels
from medseg_kd.datasets.spec import Channel, DataSpec
from medseg_kd.errors import UserError, first_line
from medseg_kd.inference.file_predictor import FilePredictor, saved_spec
from medseg_kd.inference.openvino_session import OpenVinoSession
from medseg_kd.inference.slice_batch import on_cpu
from medseg_kd.inference.source import Source

SPEC = "medseg_kd.spec"
"""Key of the spec's JSON form among the metadata of an ONNX file."""
_UNTOUCHED = Stored().numbers(np.zeros(1))


@dataclass(frozen=True)
class _Kept(Intensity):
    """Values as they are stored, once a rule takes them; its numbers for them are appended to ``found``."""

    rule: Intensity
    found: list[tuple[float, ...]] = field(default_factory=list)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        self.rule.check(values)
        self.found.append(self.rule.numbers(values))
        return np.asarray(values, np.float32)


class OnnxPredictor(FilePredictor):
    """As :class:`~medseg_kd.inference.Predictor`, of a graph with intensity rules, resizing and decoding inside.

    Args:
        path: The file, of ONNX, or OpenVINO's .xml.
        device: ``cpu``, ``cuda`` or ``cuda:<number>``, or one of OpenVINO's; None takes the CPU.
        orientation: As for :meth:`Predictor.from_checkpoint`.

    Raises:
        UserError: It is not there, is none of ``tools/export.py``, or cannot be run.
    """

    def __init__(self, path: str | Path, device: str | None = None, orientation: str | None = None) -> None:
        if not Path(path).is_file():
            raise UserError(f"no such file: {path}")
        if Path(path).suffix.lower() == ".xml":
            session: Any = OpenVinoSession(Path(path), device or "cpu")
            told = session.spec
        else:
            session = _session(Path(path), device or "cpu")
            told = session.get_modelmeta().custom_metadata_map.get(SPEC)
        if told is None:
            raise UserError(f"{path} does not say what its images are: it is no file of tools/export.py")
        try:
            content = json.loads(told)
        except ValueError as error:
            raise UserError(
                f"{path}: its metadata {SPEC} are no JSON ({first_line(error)}). Export it again"
            ) from error
        super().__init__(saved_spec(content, str(path), orientation))
        self.model = session
        self.of_case = not all(channel.intensity.fixed for channel in self.spec.channels)

    @property
    def outputs(self) -> list[str]:
        raise UserError("a graph gives labels, no probabilities: predict with the checkpoint")

    def labels(self, source: Source, keep: Any = None) -> np.ndarray:
        """See :meth:`FilePredictor.labels`; probabilities are not given."""
        return self.run(source, "labels")

    def run(self, source: Source, output: str) -> np.ndarray:
        """An output of the graph for all slices of an input."""
        self.check_neighbours(source)
        numbers = None
        if source.prepared:
            image = to_pixels(source.raw, self.spec, source.ndim, source.where, prepared=True).image
            image = as_stored(image, self.spec)
        else:
            rules = [channel.intensity for channel in self.spec.channels]
            kept = [rule if isinstance(rule, Stored) else _Kept(rule) for rule in rules]
            channels = tuple(Channel(each.name, rule) for each, rule in zip(self.spec.channels, kept, strict=True))
            image = to_pixels(source.raw, replace(self.spec, channels=channels), source.ndim, source.where).image
            numbers = [rule.found[0] if isinstance(rule, _Kept) else _UNTOUCHED for rule in kept]
        image = image[None] if source.ndim == 2 else image
        planes = np.ascontiguousarray(stack_neighbours(image, self.spec.neighbours))
        batch = on_cpu(planes.shape[-2] * planes.shape[-1])
        parts = [self.inputs(planes[start : start + batch], numbers) for start in range(0, len(planes), batch)]
        return np.concatenate([self.model.run([output], part)[0] for part in parts])

    def inputs(self, planes: np.ndarray, numbers: Any = None) -> dict[str, np.ndarray]:
        """What the graph takes: slices (N, C, H, W), and numbers of the intensity rules; None: they were applied."""
        if not self.of_case:
            return {"image": planes}
        channels = numbers or [_UNTOUCHED] * len(self.spec.channels)
        return {"image": planes, "numbers": np.tile(np.array(channels, np.float32), (2 * self.spec.neighbours + 1, 1))}


def as_stored(image: np.ndarray, spec: DataSpec) -> np.ndarray:
    """Values that the intensity rules gave, (..., C, H, W), as a graph takes them: undone where the graph applies them.

    C may count the neighbours of a slice, too.
    """
    rules = [channel.intensity for channel in spec.channels] * (image.shape[-3] // len(spec.channels))
    numbers = [rule.numbers(np.zeros(1)) if rule.fixed else _UNTOUCHED for rule in rules]
    shift, scale = np.array(numbers, np.float32).T[2:, :, None, None]
    return image * scale + shift


def _session(path: Path, device: str) -> Any:
    """Open an ONNX file on a device."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"{path}: ONNX Runtime is not installed. pip install onnxruntime") from error
    kind, _, number = device.partition(":")
    provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}.get(kind)
    known = onnxruntime.get_available_providers()
    if provider not in known:
        raise UserError(f"device {device!r} cannot be used: this ONNX Runtime has {', '.join(known)}")
    options = onnxruntime.SessionOptions()
    if (threads := os.environ.get("OMP_NUM_THREADS", "")).isdecimal():  # which PyTorch obeys, too
        options.intra_op_num_threads = int(threads)
    options.log_severity_level = 3
    choice = [(provider, {"device_id": number or "0"} if kind == "cuda" else {})]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=choice)
    # Its errors have no common base.
    except Exception as error:
        raise UserError(f"{path} cannot be read as an ONNX graph ({first_line(error)}). Export it again") from error
