"""The predictor of a file, whatever kind it is."""

from collections.abc import Sequence
from pathlib import Path

from medseg_kd.errors import UserError
from medseg_kd.inference.file_predictor import FilePredictor
from medseg_kd.inference.onnx_predictor import OnnxPredictor


def load_predictor(
    path: str | Path,
    device: str | None = None,
    orientation: str | None = None,
    ensemble: Sequence[str | Path] = (),
    tta: bool = False,
    decoding: str = "argmax",
) -> FilePredictor:
    """The predictor of a checkpoint, a run folder or a file of ``tools/export.py``; of a graph without PyTorch.

    Of nnU-Net's results folder it is a :class:`~medseg_kd.inference.NnUNetPredictor`, which ``tta`` lets mirror.

    Arguments and errors are those of :meth:`~medseg_kd.inference.Predictor.from_checkpoint`.
    """
    if Path(path).suffix.lower() in (".onnx", ".xml"):
        if ensemble or tta or decoding != "argmax":
            raise UserError(
                f"{path}: a graph gives labels, not what they are decoded from. Predict with the checkpoint"
            )
        return OnnxPredictor(path, device, orientation)
    try:
        from medseg_kd.inference.nnunet import NnUNetPredictor
        from medseg_kd.inference.predictor import Predictor
    except ImportError as error:
        raise UserError(f"{path}: a checkpoint is predicted where all of medseg_kd is installed ({error})") from error
    if (Path(path) / "plans.json").is_file():
        if ensemble or orientation or decoding != "argmax":
            raise UserError(
                f"{path}: nnU-Net's folds are averaged, its volumes taken as their files lie and decoded as nnU-Net "
                "does. Leave --ensemble, --orientation and --decode out"
            )
        return NnUNetPredictor(path, device, mirror=tta)
    return Predictor.from_checkpoint(path, device, orientation, ensemble, tta, decoding)
