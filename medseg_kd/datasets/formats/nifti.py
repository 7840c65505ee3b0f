"""NIfTI volumes in a folder of images and one of labels, as they come: no conversion."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg_kd.datasets.formats.base import Case, Format
from medseg_kd.datasets.pairs import find_cases, find_images, volumes_in
from medseg_kd.datasets.pixels import Raw
from medseg_kd.datasets.volumes import ORIENTATION, Header, check_grids, read_volume
from medseg_kd.errors import UserError
from medseg_kd.registry import FORMATS

Files = tuple[tuple[Path, ...], Path | None]
"""A case: a file of each channel, and its label or None."""
_FOLDERS = ("{split}/images", "images/{split}", "images{part}", "images")
_PARTS = {"train": "Tr", "val": "Val", "test": "Ts"}


@FORMATS.register_module()
class NIfTI(Format):
    """``<split>/images`` and ``<split>/labels`` with NIfTI volumes, or ``images`` and ``labels`` for all splits.

    ``images/<split>`` and ``imagesTr``, ``imagesVal``, ``imagesTs`` will do for ``<split>/images``. Of a folder that
    serves all splits, the config chooses with ``cases`` and ``exclude_cases``. Names, pairs and values are those that
    :func:`~medseg_kd.datasets.conversion.convert` would give; without a folder of labels the cases have none.
    """

    name = "nifti"
    files = "<split>/images/*.nii.gz (images/<split>, imagesTr|Val|Ts, or images for all splits), labels beside them"

    @classmethod
    def holds(cls, root: Path, split: str) -> bool:
        return _folders(root, split) is not None

    def told(self) -> dict[str, Any]:
        return {**super().told(), "orientation": ORIENTATION}

    def find(self, split: str) -> list[Case]:
        folders = _folders(self.root, split)
        if folders is None:
            raise UserError(f"{self.root} holds no {split} split: no {self.files}")
        files: dict[str, Files]
        if volumes_in(folders[1]):
            found = find_cases(*folders, self.with_unlabelled)
            files = {name: ((image,), label) for name, (image, label) in found.items()}
        else:
            files = {name: ((image,), None) for name, image in find_images(folders[0]).items()}
        # In the order that the converted cases come in.
        return volume_cases(dict(sorted(files.items())) if split == "train" else files, folders[0], self)

    def load(self, source: Files) -> Raw:
        return read_volume(*source)


def _folders(root: Path, split: str) -> tuple[Path, Path] | None:
    """Folders of the images and of the labels of a split; None where there is no image."""
    for place in (root / pattern.format(split=split, part=_PARTS[split]) for pattern in _FOLDERS):
        if volumes_in(place):
            return place, root / str(place.relative_to(root)).replace("images", "labels")
    return None


def volume_cases(files: Mapping[str, Files], where: Path, reader: Format, channels: int = 1) -> list[Case]:
    """Cases of volumes by their names, once the headers of each agree.

    Args:
        files: Of each case.
        where: Their folder, for messages.
        reader: Keeps what is wrong with a case, where that is no error.
        channels: In one file, see :func:`~medseg_kd.datasets.volumes.check_grids`.
    """
    together = {name: [*channels, *([label] if label else [])] for name, (channels, label) in files.items()}
    grids: dict[str, Header] = {}
    if reader.problems is None:
        told = check_grids(together.values(), f"{where} cannot be used", channels)
        grids = dict(zip(files, told, strict=True))
    for name in files if reader.problems is not None else ():
        with reader.skipping():
            (grids[name],) = check_grids([together[name]], str(together[name][-1]), channels)
    return [
        Case(name, grid.slices, volume=files[name], labelled=files[name][1] is not None, header=grid)
        for name, grid in grids.items()
    ]
