"""From photographs and their masks to folders of images: ``img_dir/<split>`` and ``ann_dir/<split>``."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medseg_kd import __version__
from medseg_kd.datasets.conversion.writing import own_manifest, staged
from medseg_kd.datasets.formats.transunet import digest
from medseg_kd.datasets.image_files import LABEL_KINDS, read_label, read_pixels
from medseg_kd.datasets.integrity import opened
from medseg_kd.datasets.intensities import RGB8
from medseg_kd.datasets.manifest import NAME, write_manifest
from medseg_kd.datasets.pairs import Pair
from medseg_kd.datasets.spec import Channel, DataSpec
from medseg_kd.errors import UserError
from medseg_kd.progress import progress

_GREY = 0.1
"""Largest part of a JPEG mask that is neither nearly black nor nearly white."""


def convert_images(
    splits: Mapping[str, Sequence[Pair]],
    out: Path,
    classes: tuple[str, str],
    tool: str,
    overwrite: bool = False,
    note: str = "",
) -> dict[str, Any]:
    """Copy colour images as they are, and write their black and white masks as PNG; all of them or nothing.

    Args:
        splits: Pairs of each split.
        out: Data folder.
        classes: What black and white are.
        tool: Name of the calling tool, for the manifest, which is returned.
        overwrite: Replace what is there.
        note: What every table that is made on the data has to say.

    Raises:
        UserError: A file is damaged, an image and its mask differ in size, a mask is not black and white.
        WriteError: The folder cannot be written.
    """
    if own_manifest(out) is not None and not overwrite:
        raise UserError(f"{out} already holds prepared data: add --overwrite to replace it.")
    spec = DataSpec(tuple(Channel(name, RGB8()) for name in ("red", "green", "blue")), classes)
    said: dict[str, dict[str, Any]] = {split: {} for split in splits}
    manifest = {
        "format": "images",
        **({"note": note} if note else {}),
        "tool": f"medseg_kd {__version__} {tool}",
        "classes": list(classes),
        "spec": spec.to_json(),
        "splits": said,
    }
    work = [(split, pair) for split, pairs in splits.items() for pair in pairs]
    with staged(out, [Path("img_dir"), Path("ann_dir"), Path(NAME)]) as stage:
        for split, pair in progress(work, f"writing {out}"):
            said[split][pair.case] = _write(stage, split, pair, classes)
        write_manifest(stage, manifest)
    return manifest


def _write(stage: Path, split: str, pair: Pair, classes: tuple[str, str]) -> dict[str, Any]:
    """Write an image and its mask; what the manifest says of them."""
    white = opened(pair.label, _white)
    shape = opened(pair.image, lambda path: read_pixels(path, 3)).shape[1:]
    if white.shape != shape:
        raise UserError(
            f"{pair.image} has {shape} pixels and {pair.label} {white.shape} (rows, columns): copy both again"
        )
    image = stage / "img_dir" / split / f"{pair.case}{pair.image.suffix.lower()}"
    mask = stage / "ann_dir" / split / f"{pair.case}.png"
    for path in (image, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(pair.image, image)
    Image.fromarray(white.astype(np.uint8) * 255).save(mask)
    count = int(white.sum())
    return {
        "slices": 1,
        "shape": list(shape),
        "voxels": dict(zip(classes, (white.size - count, count), strict=True)),
        "files": {path.relative_to(stage).as_posix(): digest(path) for path in (image, mask)},
    }


def _white(path: Path) -> np.ndarray:
    """(H, W) bool: where a mask is white."""
    if path.suffix.lower() in LABEL_KINDS:
        values = read_label(path)
        if {*np.unique(values).tolist()} <= {0, 255}:
            return values == 255
    else:
        values = read_pixels(path, 1)[0]
        if np.mean((values > 63) & (values < 192)) <= _GREY:
            return values > 127
    raise UserError(f"{path} is not black and white, as a mask is: copy it again")
