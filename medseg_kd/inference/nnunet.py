"""From nnU-Net's results folder and a file to a mask on the file's own grid."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medseg_kd.datasets.intensities import NoNormalization
from medseg_kd.datasets.nnunet_plans import results_spec
from medseg_kd.datasets.pixels import to_pixels
from medseg_kd.errors import UserError
from medseg_kd.inference.case import Keep
from medseg_kd.inference.file_predictor import FilePredictor
from medseg_kd.inference.nnunet_case import NnUNetCasePredictor
from medseg_kd.inference.predictor import placed
from medseg_kd.inference.source import Source, read_source
from medseg_kd.models.nnunet_segmentor import NnUNetSegmentor

_IMAGE_SPACING = (999.0, 1.0, 1.0)
"""Of an image without a header, as nnU-Net reads it."""


class NnUNetPredictor(FilePredictor):
    """A network that nnU-Net trained: called with an input, it gives the labels that nnU-Net's own predictor gives.

    Args:
        results: See :class:`~medseg_kd.models.NnUNetSegmentor`, as for ``folds``.
        device: None takes a GPU where there is one.
        mirror: Average over the flips that the training showed, as nnU-Net does unless it is told otherwise.
    """

    def __init__(
        self,
        results: str | Path,
        device: str | torch.device | None = None,
        folds: str | Sequence[int] | None = None,
        mirror: bool = False,
    ) -> None:
        self.model = placed(NnUNetSegmentor(str(results), folds), device)
        self.model.sees_raw = True
        self.case = NnUNetCasePredictor(mirror=mirror)
        super().__init__(results_spec(Path(results), NoNormalization()))

    @property
    def outputs(self) -> list[str]:
        """Names of what has a probability: the classes, or the regions."""
        return [name for name, *_ in self.model.regions] or list(self.spec.classes)

    def read(self, source: Any, spacing: tuple[float, ...] | None = None, series: str | None = None) -> Source:
        """See :meth:`FilePredictor.read`; volumes are taken as their files lie, arrays as nnU-Net takes them."""
        read = read_source(source, self.spec, None, spacing, series, as_stored=True)
        if read.ndim == 3 and read.raw.spacing is None:
            raise UserError(
                f"{read.where} does not tell its spacing, which nnU-Net resamples by. Give spacing=(z, y, x), mm"
            )
        if read.prepared:
            raise UserError(
                f"{read.where}: its intensities are scaled already; nnU-Net takes those of the volume itself"
            )
        return read

    def labels(self, source: Source, keep: Keep | None = None) -> np.ndarray:
        """See :meth:`FilePredictor.labels`."""
        image = to_pixels(source.raw, self.spec, source.ndim, source.where).image
        raw = source.raw
        about = {"spacing": raw.spacing, "geometry": raw.geometry, "case_name": str(source.where)}
        if source.ndim == 2:
            image, about["spacing"] = image[None], _IMAGE_SPACING
        return self.case(self.model, torch.from_numpy(np.ascontiguousarray(image)), keep=keep, about=about).numpy()
