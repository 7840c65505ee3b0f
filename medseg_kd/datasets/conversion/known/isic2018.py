"""ISIC 2018, task 1: dermoscopic images with one mask of the lesion each.

N. Codella et al., arXiv:1902.03368. Its own split: 2,594 images to train on, 100 to validate, 1,000 to test.
"""

from pathlib import Path
from typing import Any

from medseg_kd.datasets.conversion.images import convert_images
from medseg_kd.datasets.conversion.known.download import Download
from medseg_kd.datasets.formats.base import visible
from medseg_kd.datasets.pairs import Pair
from medseg_kd.errors import UserError

SPLITS = ("official",)
_PARTS = {"train": ("Training", 2594), "val": ("Validation", 100), "test": ("Test", 1000)}


def find(raw: Path, split: str) -> Download:
    """The images of all parts; ``raw`` holds ``ISIC2018_Task1-2_Training_Input`` and the five folders like it."""
    found = Download({part: [] for part in _PARTS}, [])
    if not any(raw.glob("ISIC2018_Task1-2_*_Input")):
        raise UserError(
            f"--raw {raw} holds no ISIC2018_Task1-2_Training_Input. Expected the six unpacked folders of ISIC 2018's "
            "task 1 side by side (docs/datasets.md)"
        )
    for part, (name, count) in _PARTS.items():
        folder, masks = raw / f"ISIC2018_Task1-2_{name}_Input", raw / f"ISIC2018_Task1_{name}_GroundTruth"
        images = visible(folder.glob("ISIC_*.jpg"))
        if len(images) < count:
            found.missing.append(f"{count - len(images)} of {count} images in {folder.name}")
        for image in images:
            mask = masks / f"{image.stem}_segmentation.png"
            if mask.is_file():
                found.splits[part].append(Pair(image.stem, image, mask))
            else:
                found.missing.append(f"{masks.name}/{mask.name}")
    return found


def convert(found: Download, out: Path, overwrite: bool, note: str) -> dict[str, Any]:
    """Write image folders."""
    return convert_images(found.splits, out, ("background", "lesion"), "prepare_dataset isic2018", overwrite, note)
