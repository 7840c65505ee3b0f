"""What any predictor does with files: reads an input, and lays its labels back on it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medseg_kd.datasets.spec import DataSpec
from medseg_kd.datasets.volumes import ORIENTATION, ORIENTATIONS
from medseg_kd.errors import UserError
from medseg_kd.inference.prediction import Prediction, lay_back
from medseg_kd.inference.source import Source, read_source


class FilePredictor:
    """Called with an input, it gives a :class:`Prediction`; a subclass gives the :meth:`labels` of its slices.

    Args:
        spec: What the images of the model are.
        axes: Of h5 volumes, see :class:`~medseg_kd.datasets.formats.transunet.TransUNet`.

    Raises:
        UserError: The spec's orientation is none.
    """

    def __init__(self, spec: DataSpec, axes: str | None = None) -> None:
        if spec.orientation is not None and spec.orientation not in ORIENTATIONS:
            raise UserError(f"orientation {spec.orientation!r}: expected three directions, such as {ORIENTATION}")
        self.spec, self.axes = spec, axes

    @property
    def outputs(self) -> list[str]:
        """Names of what has a probability: the classes, or the regions."""
        raise NotImplementedError

    def __call__(
        self,
        source: str | Path | Sequence[str | Path] | np.ndarray,
        spacing: tuple[float, ...] | None = None,
        series: str | None = None,
    ) -> Prediction:
        """Predict one input.

        Args:
            source: A volume (NIfTI, MHA, NRRD; a file for each channel), the folder of a DICOM series, a case or slice
                as ``prepare_slices.py`` writes it (h5, npz), an image (PNG, JPEG, BMP, TIFF), or an array, (S, H, W) or
                (H, W), a channel axis before them where there are several, oriented as the slices that the model was
                trained on. Values are those of the files, before any intensity rule, but in h5 and npz.
            spacing: (z, y, x) in mm, of an array.
            series: UID of the series, where a folder holds several.

        Raises:
            UserError: The input cannot be read, or is not what the model was trained on.
        """
        read = self.read(source, spacing, series)
        return lay_back(self.labels(read), read)

    def read(self, source: Any, spacing: tuple[float, ...] | None = None, series: str | None = None) -> Source:
        """Read an input without predicting it; arguments and errors are those of a call."""
        return read_source(source, self.spec, self.axes, spacing, series)

    def labels(self, source: Source, keep: Callable[[Any], None] | None = None) -> np.ndarray:
        """Labels (S, H, W) uint8 of the slices of an input that was read; ``keep`` takes their probabilities."""
        raise NotImplementedError

    def check_neighbours(self, source: Source) -> None:
        """Refuse a single slice for a model that takes those around it, too."""
        if source.ndim == 2 and self.spec.neighbours:
            raise UserError(
                f"{source.where}: the model takes each slice with {self.spec.neighbours} above and below it: give it "
                "the whole volume"
            )


def saved_spec(content: Any, where: str, orientation: str | None) -> DataSpec:
    """The spec of a model from its JSON form, with the orientation that a user names where it does not tell."""
    spec = DataSpec.from_json(content, f"{where}: spec")
    if orientation is None:
        return spec
    if spec.orientation not in (None, orientation):
        raise UserError(f"{where} was trained on slices in {spec.orientation}, not in {orientation}")
    return replace(spec, orientation=orientation)
