"""Exports a checkpoint, and proves what it exported before it is written."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from medseg_kd.errors import UserError
from medseg_kd.files import whole_file
from medseg_kd.inference.export_proof import check_cases, check_logits
from medseg_kd.inference.loading import load_predictor
from medseg_kd.inference.onnx_export import drop_logits, write_graph
from medseg_kd.inference.openvino_session import write_openvino
from medseg_kd.inference.predictor import Predictor
from medseg_kd.inference.saved_model import saved_config
from medseg_kd.models.checkpoint import read_checkpoint, resolve_checkpoint
from medseg_kd.models.safetensors_file import write_safetensors

KINDS = (".onnx", ".xml", ".safetensors")


def export(
    checkpoint: str | Path,
    out: Path,
    cases: Sequence[str | Path] = (),
    logits: bool = False,
    int8: Path | None = None,
    orientation: str | None = None,
) -> list[str]:
    """Write a checkpoint's model as the kind of file that the name says.

    Args:
        cases: Files whose labels are compared, too.
        logits: Keep them as second output of a graph.
        int8: Data folder whose training slices the quantisation of a graph to 8 bits is calibrated on.
        orientation: As for :meth:`Predictor.from_checkpoint`.

    Returns:
        What the comparison gave, a line each.

    Raises:
        UserError: The checkpoint cannot be used, or what was exported does not give what it gives.
    """
    if out.suffix not in KINDS:
        raise UserError(f"{out}: expected a name that ends in {' or '.join(KINDS)}")
    is_xml, is_graph = out.suffix == ".xml", out.suffix != ".safetensors"
    if (logits and not is_graph) or (int8 and out.suffix != ".onnx"):
        raise UserError(f"{out}: --logits is for a graph (.onnx, .xml) and --int8 for .onnx: choose such a name")
    predictor = Predictor.from_checkpoint(checkpoint, "cpu", orientation)
    with ExitStack() as stack:
        graph = draft = stack.enter_context(whole_file(out))
        if is_xml:
            stack.enter_context(whole_file(out.with_suffix(".bin")))
            graph = Path(stack.enter_context(TemporaryDirectory())) / "model.onnx"
        if is_graph:
            write_graph(predictor, graph)
        else:
            _write_weights(checkpoint, predictor, draft)
        if is_xml:
            write_openvino(graph, draft, predictor.spec)
        lines = [check_logits(predictor, load_predictor(draft, "cpu"))]
        if is_graph and not logits:
            drop_logits(graph)
            if is_xml:
                write_openvino(graph, draft, predictor.spec)
        if int8 is not None:
            from medseg_kd.inference.quantisation import quantise

            lines.append(quantise(draft, int8))
        if cases:
            lines.append(check_cases(predictor, load_predictor(draft, "cpu"), cases, exact=int8 is None))
    return lines


def _write_weights(checkpoint: str | Path, predictor: Predictor, path: Path) -> None:
    """Write the weights of a checkpoint, of a distillation the student's, with what it says of model and images."""
    where = str(resolve_checkpoint(checkpoint))
    config = saved_config(read_checkpoint(where)["meta"]["cfg"], where)
    config["model"] = config["model"].get("architecture", config["model"])
    read = {"size": predictor.size, "format_options": {"axes": predictor.axes}}
    meta = {"spec": predictor.spec.to_json(), "cfg": {**config, "test_dataloader": {"dataset": read}}}
    write_safetensors(str(path), predictor.model.state_dict(), meta)
