"""Kvasir-SEG: 1,000 colonoscopy images with one mask of polyps each.

D. Jha et al., MultiMedia Modeling 2020. Image and mask are JPEG files of one name.
"""

from pathlib import Path
from typing import Any

from medseg_kd.datasets.conversion.images import convert_images
from medseg_kd.datasets.conversion.known.download import Download, folder_in
from medseg_kd.datasets.formats.base import visible
from medseg_kd.datasets.listings import read_json
from medseg_kd.datasets.pairs import Pair

SPLITS = ("pranet", "official")
_IMAGES = 1000
_HELD_OUT = {"pranet": "test", "official": "val"}


def find(raw: Path, split: str) -> Download:
    """The images of a split.

    Args:
        raw: The folder with ``images`` and ``masks``, or one around it.
        split: ``pranet``, 900 to train on and 100 to test, as PraNet and all who compare with it; or ``official``,
            the authors' 880 and 120, of which the latter validate.
    """
    images = folder_in(raw, ("images", "Kvasir-SEG/images"), "images/*.jpg and masks/*.jpg of Kvasir-SEG")
    masks = images.with_name("masks")
    held_out = read_json(Path(__file__).with_name("kvasir_seg.json"), dict)[split]
    files = {path.stem: path for path in visible(images.glob("*.jpg"))}
    found = Download({"train": [], _HELD_OUT[split]: []}, [])
    found.missing.extend(f"images/{name}.jpg" for name in held_out if name not in files)
    for name, image in files.items():
        mask = masks / image.name
        if mask.is_file():
            found.splits[_HELD_OUT[split] if name in held_out else "train"].append(Pair(name, image, mask))
        else:
            found.missing.append(f"masks/{image.name}")
    if (lacking := _IMAGES - len({*files, *held_out})) > 0:
        found.missing.append(f"{lacking} images to train on")
    return found


def convert(found: Download, out: Path, overwrite: bool, note: str) -> dict[str, Any]:
    """Write image folders; masks are cut at half of the brightness, which JPEG has blurred."""
    return convert_images(found.splits, out, ("background", "polyp"), "prepare_dataset kvasir-seg", overwrite, note)
