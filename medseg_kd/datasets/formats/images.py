"""Image files: OpenMMLab's folders of images and label images, grey, colour, 16 bits or palette."""

import os
from collections import defaultdict
from pathlib import Path

from medseg_kd.datasets.formats.base import Case, Format, numbered, tells_slice, visible
from medseg_kd.datasets.image_files import KINDS, LABEL_KINDS, read_label, read_pixels
from medseg_kd.datasets.integrity import opened
from medseg_kd.datasets.intensities import RGB8
from medseg_kd.datasets.pixels import Raw
from medseg_kd.datasets.spec import Channel
from medseg_kd.errors import UserError, some
from medseg_kd.registry import FORMATS

_IMAGE_FOLDERS = ("img_dir", "images", "imgs")
_LABEL_FOLDERS = ("ann_dir", "labels", "masks", "annotations")
_SPLITS = {"train": ("train", "training"), "val": ("val", "validation"), "test": ("test", "val", "validation")}
_Files = tuple[Path, Path | None]
"""An image and its label."""


@FORMATS.register_module()
class Images(Format):
    """``img_dir/<split>/`` with images, ``ann_dir/<split>/`` with label images of the same names.

    ``images`` and ``labels`` or ``masks`` will do for the two, and ``<split>/images/`` for ``images/<split>/``. Files
    ``<case>_slice<number>``, and numbered files in a folder a case, are the slices of a case; any other file is a case
    of its own. A label holds class values: grey or palette, never colours. The test split is ``test``, or ``val`` where
    there is none. Without folders for the splits all files serve any split: choose with ``cases`` or ``val_cases``.
    """

    name = "images"
    files = "img_dir/<split>/*.png|jpg|bmp|tif and ann_dir/<split>/*.png|bmp|tif"
    channels = (Channel("grey", RGB8()),)

    @classmethod
    def holds(cls, root: Path, split: str) -> bool:
        return _folders(root, split) is not None

    def find(self, split: str) -> list[Case]:
        folders = _folders(self.root, split)
        if folders is None:
            raise UserError(f"{self.root} holds no {split} split: no {self.files}")
        images, labels = folders
        cases: dict[str, list[tuple[int, _Files]]] = defaultdict(list)
        seen: dict[Path, Path] = {}
        for image in _files(images):
            stem = image.relative_to(images).with_suffix("")
            with self.skipping():
                if (twin := seen.setdefault(stem, image)) != image:
                    raise UserError(f"{twin} and {image.name} are the same slice: keep one of them")
                if folder := "_".join(stem.parts[:-1]):
                    case, index = numbered(image, folder)
                else:
                    case, index = numbered(image) if tells_slice(image) else (stem.name, 0)
                label = None if labels is None else _label(labels / stem, image, self.with_unlabelled)
                cases[case].append((index, (image, label)))
        found = []
        for name, slices in sorted((name, slices) for name, slices in cases.items() if slices):
            with self.skipping():
                if len(places := {image.parent for _, (image, _) in slices}) > 1:
                    where = " and ".join(map(str, sorted(places)))
                    raise UserError(f"case {name} has slices in {where}: rename one of them")
                labelled = {label is not None for _, (_, label) in slices}
                if len(labelled) > 1:
                    lacking = [image.name for _, (image, label) in slices if label is None]
                    raise UserError(f"case {name}: no label for {some(lacking)}, but for its other slices. Add them")
                found.append(Case.of_slices(name, slices, all(labelled)))
        return found

    def load(self, source: _Files) -> Raw:
        image, label = source
        pixels = read_pixels(image, len(self.spec.channels))
        return Raw(pixels, None if label is None else opened(label, read_label), label_file=label)


def _folders(root: Path, split: str) -> tuple[Path, Path | None] | None:
    """Folders of the images of a split and of their labels; None where there is no image."""
    for name in _SPLITS[split]:
        for kind in _IMAGE_FOLDERS:
            for place in (f"{{}}/{name}", f"{name}/{{}}"):
                if _files(images := root / place.format(kind)):
                    return images, _label_folder(root, place)
    for images in (root / kind for kind in _IMAGE_FOLDERS):
        # Without folders for the splits: nothing else may lie there.
        if images.is_dir() and visible(images.iterdir()) == _files(images) != []:
            return images, _label_folder(root, "{}")
    return None


def _label_folder(root: Path, place: str) -> Path | None:
    """The first folder of labels that is there."""
    return next((path for kind in _LABEL_FOLDERS if (path := root / place.format(kind)).is_dir()), None)


def _label(stem: Path, image: Path, may_lack: bool) -> Path | None:
    """The label of an image, a file of this name but for its suffix; None where there is none and that may be."""
    found: list[Path] = []
    for suffixes in (LABEL_KINDS, map(str.upper, LABEL_KINDS)):
        found = found or [file for suffix in suffixes if (file := stem.with_name(stem.name + suffix)).is_file()]
    if not found and may_lack:
        return None
    if len(found) != 1:
        what = " and ".join(file.name for file in found) + ": keep one label" if found else "lacks the label"
        hint = "" if found else ". In training, a teacher may label images (model.teacher_labels=True)"
        raise UserError(f"{stem.parent} {what} of {image}; expected {stem.name}.png{hint}")
    return found[0]


def _files(folder: Path) -> list[Path]:
    """Image files in a folder and the folders in it, linked ones too; what is hidden is left out.

    Raises:
        UserError: A link leads nowhere.
    """
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        own = Path(place).resolve()
        inner = (name for name in folders if not name.startswith("."))
        folders[:] = [name for name in inner if not own.is_relative_to(Path(place, name).resolve())]
        found += [Path(place, name) for name in names if Path(name).suffix.lower() in KINDS]
    for path in (files := visible(found)):
        if path.is_symlink() and not path.exists():
            raise UserError(
                f"{path} is a link to {os.readlink(path)}, which is not there. Remove it, or bring the file back"
            )
    return files
