"""From a checkpoint and a file to a mask on the file's own grid."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
import torch

from medseg_kd.datasets.formats.base import opened
from medseg_kd.datasets.formats.images import read_pixels
from medseg_kd.datasets.formats.transunet import TransUNet
from medseg_kd.datasets.pixels import Pixels, Raw, to_pixels
from medseg_kd.datasets.spec import DataSpec
from medseg_kd.datasets.transforms import stack_neighbours, zoom_planes
from medseg_kd.datasets.volumes import ORIENTATION, VOLUMES, check_grids, read_volume
from medseg_kd.errors import UserError, first_line
from medseg_kd.evaluation.predictions import image_of
from medseg_kd.inference.saved_model import saved_config, saved_model
from medseg_kd.models.checkpoint import read_checkpoint, resolve_checkpoint

PREPARED = (".npy.h5", ".h5", ".npz")
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_ORIENTATIONS = {
    "".join(letters) for axes in itertools.permutations(("LR", "PA", "SI")) for letters in itertools.product(*axes)
}


@dataclass(frozen=True)
class Prediction:
    """Labels of one input, uint8, 0 is background.

    Attributes:
        labels: On the input's own grid: (S, H, W) of a volume, its axes those of ``SimpleITK.GetArrayFromImage``;
            (S, H, W) of an array or h5 file, slices first; (H, W) of a slice.
        image: The volume with its place: of a volume file, that of the input; of a prepared case, that of the file
            that it was made from; None for a slice.
    """

    labels: np.ndarray
    image: sitk.Image | None = None


class Predictor:
    """A trained segmentor and what its images are: called with an input, it gives a :class:`Prediction`.

    Args:
        model: A segmentor in eval mode.
        spec: What its images are.
        size: (height, width) that slices were resized to when they were read, or None.
        axes: Of h5 volumes, see :class:`~medseg_kd.datasets.formats.transunet.TransUNet`.
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
        if spec.orientation is not None and spec.orientation not in _ORIENTATIONS:
            raise UserError(f"orientation {spec.orientation!r}: expected three directions, such as {ORIENTATION}")
        self.model, self.spec, self.size, self.axes = model, spec, size, axes

    @classmethod
    def from_checkpoint(
        cls, path: str | Path, device: str | torch.device | None = None, orientation: str | None = None
    ) -> "Predictor":
        """The predictor of a checkpoint or run folder, which is all that is needed; nothing in it is run as code.

        Args:
            device: None takes a GPU where there is one.
            orientation: Of the slices that the model was trained on, such as ``LPS``, where their data did not tell.

        Raises:
            UserError: It cannot be read, or does not tell what its model or its images are.
        """
        where = str(resolve_checkpoint(path))
        checkpoint = read_checkpoint(where)
        meta = checkpoint.get("meta")
        meta = meta if isinstance(meta, dict) else {}
        if "spec" not in meta:
            raise UserError(
                f"{where} does not say what its images are (no meta['spec']): it is no checkpoint of train.py, or "
                "one of data that do not tell. Predict with `python test.py CONFIG CHECKPOINT --save-predictions`"
            )
        spec = DataSpec.from_json(meta["spec"], f"{where}: spec")
        if orientation is not None:
            if spec.orientation not in (None, orientation):
                raise UserError(f"{where} was trained on slices in {spec.orientation}, not in {orientation}")
            spec = replace(spec, orientation=orientation)
        config = saved_config(meta.get("cfg"), where)
        data = config.get("test_dataloader", {}).get("dataset", {})
        model = saved_model(config.get("model"), checkpoint["state_dict"], where)
        size = data.get("size")
        axes = (data.get("format_options") or {}).get("axes")
        try:
            model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        except (RuntimeError, AssertionError) as error:  # also of a PyTorch that was built without that device
            raise UserError(f"device {str(device)!r} cannot be used: {first_line(error)}") from error
        return cls(model, spec, None if size is None else tuple(size), axes)

    def __call__(
        self, source: str | Path | Sequence[str | Path] | np.ndarray, spacing: tuple[float, ...] | None = None
    ) -> Prediction:
        """Predict one input.

        Args:
            source: A volume (NIfTI, MHA, NRRD; a file for each channel), a case or slice as ``prepare_slices.py``
                writes it (h5, npz), an image (PNG, JPEG, BMP, TIFF), or an array, (S, H, W) or (H, W), a channel axis
                before them where there are several, oriented as the slices that the model was trained on. Values are
                those of the files, before any intensity rule, but in h5 and npz.
            spacing: (z, y, x) in mm, of an array.

        Raises:
            UserError: The input cannot be read, or is not what the model was trained on.
        """
        if isinstance(source, np.ndarray):
            several = len(self.spec.channels) > 1 or source.ndim == 4
            raw, ndim = Raw(source, None, spacing), source.ndim - several
            if ndim not in (2, 3):
                raise UserError(f"an array of shape {source.shape}: expected (S, H, W) or (H, W), channels first")
            return self._predicted(to_pixels(raw, self.spec, ndim, "the array"), "the array")
        paths = [Path(each) for each in ([source] if isinstance(source, (str, Path)) else source)]
        if missing := [str(path) for path in paths if not path.is_file()]:
            raise UserError(f"no such file: {', '.join(missing)}")
        name = paths[0].name.lower()
        if name.endswith(VOLUMES):
            return self._volume(paths)
        if len(paths) > 1:
            raise UserError(f"{paths[0]} and {paths[1].name}: only the channels of a volume are files of their own")
        if name.endswith(PREPARED):
            return self._prepared(paths[0])
        if name.endswith(IMAGES):
            pixels = opened(paths[0], lambda path: read_pixels(path, len(self.spec.channels)))
            return self._predicted(to_pixels(Raw(pixels, None), self.spec, 2, paths[0]), paths[0])
        raise UserError(f"{paths[0]}: expected one of {', '.join((*VOLUMES, *PREPARED[1:], *IMAGES))}")

    def _volume(self, paths: list[Path]) -> Prediction:
        """Predict the slices of a volume as they lie in training, and turn the labels back."""
        if self.spec.orientation is None:
            raise UserError(
                f"{paths[0]}: the checkpoint does not tell how the slices lay that it was trained on. Name it: "
                "--orientation LPS where rows run from front to back and columns from the patient's right to the left"
            )
        (header,) = check_grids([paths], "the volume cannot be used")
        raw = _turned(read_volume(paths, None), self.spec.orientation)
        predicted = self._predicted(to_pixels(raw, self.spec, 3, paths[0]), paths[0])
        image = predicted.image
        assert image is not None
        place = replace(
            header,
            size=image.GetSize(),
            spacing=image.GetSpacing(),
            origin=image.GetOrigin(),
            direction=image.GetDirection(),
        )
        if found := header.differences(place):
            raise UserError("the labels cannot be laid on the input again:\n  " + "\n  ".join(found))
        image.SetSpacing(header.spacing)
        image.SetOrigin(header.origin)
        image.SetDirection(header.direction)
        return Prediction(sitk.GetArrayFromImage(image), image)

    def _prepared(self, path: Path) -> Prediction:
        """Predict a slice or case of TransUNet's layout, once its folder does not tell that it is of other images."""
        found = TransUNet(path.parent.parent, self.axes)
        if differences := self.spec.differences(replace(self.spec, **found.told())):
            raise UserError(f"{path}: not the images that the model was trained on:\n  " + "\n  ".join(differences))
        ndim = 2 if path.suffix == ".npz" else 3
        raw = opened(path, found.load_image)
        pixels = to_pixels(raw, self.spec, ndim, path, prepared=True)
        return self._predicted(pixels, path)

    @torch.no_grad()
    def _predicted(self, pixels: Pixels, where: str | Path) -> Prediction:
        """Predict the slices of a case (S, C, H, W), or one slice (C, H, W)."""
        alone = pixels.image.ndim == 3
        if alone and self.spec.neighbours:
            raise UserError(
                f"{where}: the model takes each slice with {self.spec.neighbours} above and below it: give it the "
                "whole volume"
            )
        planes = pixels.image[None] if alone else pixels.image
        shown = planes if self.size is None else zoom_planes(planes, self.size, 3)
        volume = stack_neighbours(torch.from_numpy(np.ascontiguousarray(shown)), self.spec.neighbours)
        labels = self.model.predict_volume(volume, planes.shape[2:]).numpy()
        if alone:
            return Prediction(labels[0])
        place = {"case_name": str(where), "spacing": pixels.spacing, "geometry": pixels.geometry}
        return Prediction(labels, image_of({"pred_sem_seg": {"data": labels}, **place}))


def _turned(raw: Raw, orientation: str) -> Raw:
    """A volume in LPS turned to another orientation."""
    assert raw.geometry is not None and raw.spacing is not None
    if orientation == ORIENTATION:
        return raw
    images = []
    for channel in raw.image:
        image = sitk.GetImageFromArray(channel)
        image.SetSpacing(raw.spacing[::-1])
        image.SetOrigin(raw.geometry["origin"])
        image.SetDirection(raw.geometry["direction"])
        images.append(sitk.DICOMOrient(image, orientation))
    place = {"origin": images[0].GetOrigin(), "direction": images[0].GetDirection()}
    arrays = np.stack([sitk.GetArrayFromImage(image) for image in images])
    return Raw(arrays, None, images[0].GetSpacing()[::-1], {**raw.geometry, **place})
