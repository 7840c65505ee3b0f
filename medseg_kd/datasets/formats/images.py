"""Image files: OpenMMLab's folders of images and label images, grey, colour, 16 bits or palette."""

import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from medseg_kd.datasets.formats.base import Case, Format, opened
from medseg_kd.datasets.formats.names import numbered, tells_slice, visible
from medseg_kd.datasets.intensities import RGB8
from medseg_kd.datasets.pixels import Raw
from medseg_kd.datasets.spec import Channel
from medseg_kd.errors import UserError
from medseg_kd.registry import FORMATS

_LABEL_KINDS = {".png": "PNG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF"}
_KINDS = {**_LABEL_KINDS, ".jpg": "JPEG", ".jpeg": "JPEG"}
_IMAGE_FOLDERS = ("img_dir", "images", "imgs")
_LABEL_FOLDERS = ("ann_dir", "labels", "masks", "annotations")
_SPLITS = {"train": ("train", "training"), "val": ("val", "validation"), "test": ("test", "val", "validation")}
_DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_GREY = 2
"""Largest difference of the colours of a grey pixel, for JPEG's rounding."""
_ORIENTATION = ExifTags.Base.Orientation


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
        """See :meth:`Format.holds`."""
        return cls._folders(root, split) is not None

    @classmethod
    def _folders(cls, root: Path, split: str) -> tuple[Path, Path | None] | None:
        """Folders of the images and of their labels; None where there is no image."""
        for name in _SPLITS[split]:
            for kind in _IMAGE_FOLDERS:
                for images, beside in ((root / kind / name, (root, name)), (root / name / kind, (root / name, ""))):
                    if any(_files(images, _KINDS)):
                        labels = (beside[0] / each / beside[1] for each in _LABEL_FOLDERS)
                        return images, next((folder for folder in labels if folder.is_dir()), None)
        for images in (root / kind for kind in _IMAGE_FOLDERS):
            # Without folders for the splits: nothing else may lie there.
            if images.is_dir() and visible(images.iterdir()) == _files(images, _KINDS) != []:
                return images, next((root / each for each in _LABEL_FOLDERS if (root / each).is_dir()), None)
        return None

    def find(self, split: str) -> list[Case]:
        """See :meth:`Format.find`."""
        folders = self._folders(self.root, split)
        if folders is None:
            raise UserError(f"{self.root} holds no {split} split: no {self.files}")
        images, labels = folders
        cases: dict[str, list[tuple[int, tuple[Path, Path | None]]]] = defaultdict(list)
        seen: dict[Path, Path] = {}
        for image in _files(images, _KINDS):
            stem = image.with_suffix("")
            if stem in seen:
                raise UserError(f"{seen[stem]} and {image.name} are the same slice: keep one of them")
            seen[stem] = image
            case, index = self._slice(image, images)
            cases[case].append((index, (image, self._label(image, images, labels))))
        return [_case(name, slices) for name, slices in sorted(cases.items())]

    @staticmethod
    def _slice(image: Path, images: Path) -> tuple[str, int]:
        """Case and number of an image."""
        folder = image.parent.relative_to(images)
        if folder.parts:
            return numbered(image, "_".join(folder.parts))
        return numbered(image) if tells_slice(image) else (image.stem, 0)

    @staticmethod
    def _label(image: Path, images: Path, labels: Path | None) -> Path | None:
        """The label of an image; None where the split has none at all."""
        if labels is None:
            return None
        stem = labels / image.relative_to(images).with_suffix("")
        for suffixes in (_LABEL_KINDS, map(str.upper, _LABEL_KINDS)):
            if found := [file for suffix in suffixes if (file := stem.with_name(stem.name + suffix)).is_file()]:
                break
        if len(found) != 1:
            what = " and ".join(file.name for file in found) + ": keep one label" if found else "lacks the label"
            raise UserError(f"{stem.parent} {what} of {image}; expected {stem.name}.png")
        return found[0]

    def load(self, source: tuple[Path, Path | None]) -> Raw:
        """See :meth:`Format.load`."""
        image, label = source
        pixels = read_pixels(image, len(self.spec.channels))
        return Raw(pixels, None if label is None else opened(label, read_label), label_file=label)


def _files(folder: Path, kinds: dict[str, str]) -> list[Path]:
    """Image files in a folder and the folders in it, linked ones too; what is hidden is left out.

    Raises:
        UserError: A link leads nowhere.
    """
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        own = Path(place).resolve()
        inner = (name for name in folders if not name.startswith("."))
        folders[:] = [name for name in inner if not own.is_relative_to(Path(place, name).resolve())]
        found += [Path(place, name) for name in names if Path(name).suffix.lower() in kinds]
    for path in (files := visible(found)):
        if path.is_symlink() and not path.exists():
            raise UserError(
                f"{path} is a link to {os.readlink(path)}, which is not there. Remove it, or bring the file back"
            )
    return files


def _case(name: str, slices: list[tuple[int, tuple[Path, Path | None]]]) -> Case:
    """A case of its slices."""
    slices.sort(key=lambda each: each[0])
    indices = tuple(index for index, _ in slices)
    if len({*indices}) < len(indices):
        twice = next(index for index in indices if indices.count(index) > 1)
        files = " and ".join(str(files[0]) for index, files in slices if index == twice)
        raise UserError(f"case {name} has slice {twice} more than once: {files}")
    sources = tuple(files for _, files in slices)
    if len(folders := {image.parent for image, _ in sources}) > 1:
        raise UserError(f"case {name} has slices in {' and '.join(map(str, sorted(folders)))}: rename one of them")
    return Case(name, len(slices), slices=sources, indices=indices, labelled=sources[0][1] is not None)


def _open(path: Path, kinds: dict[str, str]) -> Image.Image:
    """Open a file of one of these kinds, whatever its name says, and of no other."""
    image = Image.open(path, formats=tuple(kinds.values()))
    if (pages := getattr(image, "n_frames", 1)) > 1:
        image.close()
        raise UserError(f"{path} holds {pages} pages, of which one would be read. Save each as a file of its own")
    if image.mode not in _DEEP and any(";16" in str(tile[3]) for tile in image.tile):
        image.close()
        raise UserError(
            f"{path} has several channels of 16 bits, of which 8 would be read. Save it with 8 bits a channel, or each "
            "channel as a volume of its own (nnunet)"
        )
    if (turn := image.getexif().get(_ORIENTATION, 1)) > 1:
        image.close()
        raise UserError(
            f"{path} is to be turned or mirrored (EXIF orientation {turn}), so that it is not known how its label "
            "lies. Save both upright, without this entry"
        )
    return image


def read_pixels(path: Path, channels: int) -> np.ndarray:
    """Pixels (C, H, W): one channel of a grey image, three of a colour image."""
    with _open(path, _KINDS) as image:
        if image.mode in _DEEP:
            return np.repeat(np.asarray(image)[None], channels, axis=0)
        if image.mode in ("LA", "PA", "RGBA") and image.convert("RGBA").getextrema()[3] != (255, 255):
            raise UserError(f"{path} is transparent in places: save it without an alpha channel")
        pixels = np.asarray(image.convert("RGB"))
    if channels == 1:
        difference = int((pixels.max(-1) - pixels.min(-1)).max(initial=0))
        if difference > _GREY:
            raise UserError(
                f"{path} is a colour image, but dataset.spec knows one channel. For colour say "
                "dataset.spec=dict(channels='RGB', ...); to do without it, save the images in grey"
            )
        return pixels[None, ..., 1]
    return np.moveaxis(pixels, -1, 0)


def read_label(path: Path) -> np.ndarray:
    """Pixel values of a label file; of a palette image, its indices."""
    with _open(path, _LABEL_KINDS) as image:
        if image.mode in ("1", "L", "P", *_DEEP):
            return np.asarray(image)
        pixels: Any = np.asarray(image.convert("RGB"))
    if (pixels == pixels[..., :1]).all():
        return pixels[..., 0]
    raise UserError(
        f"{path} is a colour image: a label holds the class value of each pixel. Save it as a grey or palette PNG with "
        "the values 0, 1 and so on"
    )
