"""From a checkpoint to an ONNX graph that takes values as files hold them and gives labels."""

import json
import logging
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch

from medseg_kd.errors import UserError, first_line
from medseg_kd.inference.end_to_end import EndToEnd
from medseg_kd.inference.onnx_predictor import SPEC
from medseg_kd.inference.predictor import Predictor

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_LARGEST = 2**31 - 2**20
"""Bytes of weights in one file: protobuf takes 2 GiB."""
_EXAMPLE = 2, 64, 96


def write_graph(predictor: Predictor, path: Path) -> None:
    """Write the graph of a model, of any number of slices of any size, with its spec in the metadata.

    Inputs: ``image`` (N, C, H, W) float32, and where an intensity rule is one of a whole case, ``numbers`` (C, 4), see
    :meth:`~medseg_kd.datasets.intensities.Intensity.numbers`. Outputs: ``labels`` (N, H, W) uint8, ``logits``.

    Raises:
        UserError: A package is missing, the weights are too large for one file, or a part of the model has no
            counterpart in ONNX.
    """
    if missing := [name for name in _PACKAGES if find_spec(name) is None]:
        raise UserError(
            f"{', '.join(missing)} not installed, which the export to ONNX needs. pip install {' '.join(missing)}"
        )
    module = EndToEnd(predictor.model, predictor.spec, predictor.size).eval()
    if (size := sum(each.nbytes for each in predictor.model.state_dict().values())) > _LARGEST:
        raise UserError(f"the model has {size / 2**30:.1f} GiB of weights, and a file of ONNX takes 2")
    batch, height, width = _EXAMPLE
    channels = len(module.numbers)
    example = (torch.zeros(batch, channels, height, width), module.numbers)[: 1 + module.of_case]
    names = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    # It tells of each operator of torchvision, which is not needed.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                example,
                input_names=["image", "numbers"][: len(example)],
                output_names=["labels", "logits"],
                dynamic_shapes=(names, {})[: len(example)],
                dynamo=True,
                verbose=False,
            )
    # PyTorch's exporter and the model's own code raise what they like.
    except Exception as error:
        raise UserError(f"the model cannot be exported to ONNX: {first_line(error.__cause__ or error)}") from error
    assert program is not None
    program.model.metadata_props[SPEC] = json.dumps(predictor.spec.to_json())
    program.save(str(path), external_data=False)


def drop_logits(path: Path) -> None:
    """Take the second output out of a graph."""
    import onnx

    model = onnx.load(str(path))
    del model.graph.output[1:]
    onnx.save(model, str(path))
