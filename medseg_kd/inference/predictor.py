"""From a checkpoint and a file to a mask on the file's own grid."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medseg_kd.datasets.pixels import stack_neighbours, to_pixels
from medseg_kd.datasets.spec import DataSpec
from medseg_kd.datasets.transforms import zoom_planes
from medseg_kd.errors import UserError, first_line
from medseg_kd.evaluation.label_tables import colour
from medseg_kd.inference.case import Keep, predict_with
from medseg_kd.inference.file_predictor import FilePredictor, saved_spec
from medseg_kd.inference.saved_model import saved_config, saved_model, saved_reading
from medseg_kd.inference.source import Source
from medseg_kd.models.checkpoint import read_checkpoint, resolve_checkpoint


class Predictor(FilePredictor):
    """A trained segmentor and what its images are: called with an input, it gives a :class:`Prediction`.

    Args:
        model: A segmentor in eval mode.
        spec: What its images are.
        size: (height, width) that slices were resized to when they were read, or None.
        axes: Of h5 volumes, see :class:`~medseg_kd.datasets.formats.transunet.TransUNet`.

    Raises:
        UserError: Model and spec do not fit.
    """

    def __init__(
        self, model: Any, spec: DataSpec, size: tuple[int, int] | None = None, axes: str | None = None
    ) -> None:
        for what, own, its in (
            ("classes", getattr(model, "num_classes", None), spec.num_classes),
            ("input channels", getattr(model, "in_channels", None), spec.num_channels),
        ):
            if own not in (None, its):
                raise UserError(
                    f"the model has {own} {what}, its data have {its}: one of the two belongs to another run"
                )
        super().__init__(spec, axes)
        self.model, self.size = model, size
        predict_with(model)

    @property
    def outputs(self) -> list[str]:
        """Names of what has a probability: the classes, or the regions."""
        regions = [name for name, *_ in self.model.regions]
        return regions or list(self.spec.classes[1:] if self.model.overlapping else self.spec.classes)

    @property
    def dataset_meta(self) -> dict[str, Any]:
        """Names and colours of the classes, as MMSegmentation's drawing asks for them."""
        return {
            "classes": self.spec.classes,
            "palette": [list(colour(value)) for value in range(self.spec.num_classes)],
        }

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        device: str | torch.device | None = None,
        orientation: str | None = None,
        ensemble: Sequence[str | Path] = (),
        tta: bool = False,
        decoding: str = "argmax",
    ) -> "Predictor":
        """The predictor of a checkpoint or run folder, which is all that is needed; nothing in it is run as code.

        Args:
            path: Also a ``.safetensors`` file of ``tools/export.py``.
            device: None takes a GPU where there is one.
            orientation: Of the slices that the model was trained on, such as ``LPS``, where their data did not tell.
            ensemble: Further checkpoints of the same images and classes; the probabilities of all are averaged.
            tta: Average over the flips and right angles that the training showed, too.
            decoding: ``argmax`` or ``rankseg``, see :func:`~medseg_kd.inference.decoding.decoder`.

        Raises:
            UserError: One cannot be read, does not tell what its model or its images are, or is of other images.
        """
        if (Path(path) / "plans.json").is_file():
            raise UserError(
                f"{path} holds results of nnU-Net, no checkpoint of train.py: NnUNetPredictor({str(path)!r})"
            )
        where = str(resolve_checkpoint(path))
        checkpoint = read_checkpoint(where)
        meta = checkpoint.get("meta")
        meta = meta if isinstance(meta, dict) else {}
        if "spec" not in meta:
            raise UserError(
                f"{where} does not say what its images are (no meta['spec']): it is no checkpoint of train.py, or "
                "one of data that do not tell. Predict with `python test.py CONFIG CHECKPOINT --save-predictions`"
            )
        spec = saved_spec(meta["spec"], where, orientation)
        config = saved_config(meta.get("cfg"), where)
        size, axes = saved_reading(config, where)
        model = saved_model(config.get("model"), checkpoint["state_dict"], where)
        model = placed(model, device)
        predictor = cls(model, spec, size, axes)
        others = [cls.from_checkpoint(each, device, orientation) for each in ensemble]
        for name, other in zip(ensemble, others, strict=True):
            if found := predictor._differences(other):
                raise UserError(f"{where} and {name} are no ensemble: they differ in\n  " + "\n  ".join(found))
        predict_with(model, tta, decoding, [each.model for each in others])
        return predictor

    def _differences(self, other: "Predictor") -> list[str]:
        """Why the probabilities of two cannot be averaged, a line each."""
        kinds = ["regions" if each.model.overlapping else "classes" for each in (self, other)]
        settings = [("dataset.size", self.size, other.size), ("axes", self.axes, other.axes), ("outputs", *kinds)]
        return [
            *self.spec.differences(other.spec),
            *(f"{name}: {own} and {its}" for name, own, its in settings if own != its),
        ]

    def labels(self, source: Source, keep: Keep | None = None) -> np.ndarray:
        """See :meth:`FilePredictor.labels`."""
        shape = source.raw.image.shape
        return self.model.predictor(self.model, self.slices(source), (shape[-2], shape[-1]), keep).numpy()

    def slices(self, source: Source) -> Tensor:
        """What the model takes of an input, (S, C, H, W)."""
        image = to_pixels(source.raw, self.spec, source.ndim, source.where, source.prepared).image
        self.check_neighbours(source)
        planes = image[None] if source.ndim == 2 else image
        shown = planes if self.size is None else zoom_planes(planes, self.size, 3)
        return torch.from_numpy(np.ascontiguousarray(stack_neighbours(shown, self.spec.neighbours)))


def placed(model: Any, device: str | torch.device | None) -> Any:
    """A model on a device; None takes a GPU where there is one."""
    try:
        return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except (RuntimeError, AssertionError) as error:  # also of a PyTorch that was built without that device
        raise UserError(f"device {str(device)!r} cannot be used: {first_line(error)}") from error
