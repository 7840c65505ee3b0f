"""NIfTI volumes in a folder of images and one of labels, as they come: no conversion."""

from pathlib import Path
from typing import Any

from medseg_kd.datasets.formats.base import Case, Format
from medseg_kd.datasets.pairs import SUFFIXES, find_images, find_pairs
from medseg_kd.datasets.pixels import Raw
from medseg_kd.datasets.volumes import ORIENTATION, check_grids, read_volume
from medseg_kd.errors import UserError
from medseg_kd.registry import FORMATS

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
        """See :meth:`Format.holds`."""
        return cls._folders(root, split) is not None

    @classmethod
    def _folders(cls, root: Path, split: str) -> tuple[Path, Path] | None:
        """Folders of the images and of the labels of a split; None where there is no image."""
        for pattern in _FOLDERS:
            images, labels = (
                root / each.format(split=split, part=_PARTS[split])
                for each in (pattern, pattern.replace("images", "labels"))
            )
            if _holds_volumes(images):
                return images, labels
        return None

    def told(self) -> dict[str, Any]:
        """See :meth:`Format.told`."""
        return {**super().told(), "orientation": ORIENTATION}

    def find(self, split: str) -> list[Case]:
        """See :meth:`Format.find`."""
        folders = self._folders(self.root, split)
        if folders is None:
            raise UserError(f"{self.root} holds no {split} split: no {self.files}")
        files: dict[str, tuple[Path, Path | None]]
        if _holds_volumes(folders[1]):
            files = {pair.case: (pair.image, pair.label) for pair in find_pairs(*folders)}
        else:
            files = {name: (image, None) for name, image in find_images(folders[0]).items()}
        names = sorted(files) if split == "train" else list(files)  # the order that the converted cases come in
        grids = check_grids(([file for file in files[name] if file] for name in names), f"{folders[0]} cannot be used")
        return [
            Case(name, grid.slices, volume=files[name], labelled=files[name][1] is not None)
            for name, grid in zip(names, grids, strict=True)
        ]

    def load(self, source: tuple[Path, Path | None]) -> Raw:
        """See :meth:`Format.load`."""
        return read_volume([source[0]], source[1])


def _holds_volumes(folder: Path) -> bool:
    """Whether a folder has NIfTI files in it."""
    return folder.is_dir() and any(
        path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".") for path in folder.iterdir()
    )
