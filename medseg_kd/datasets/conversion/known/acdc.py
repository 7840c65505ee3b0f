"""ACDC (MICCAI 2017): short-axis cine MR of the heart, 150 patients at end diastole and end systole.

O. Bernard et al., IEEE TMI 37 (2018) 2514-2525. A patient's two frames are two cases, ``patient001_ED`` and
``patient001_ES``; both are always in the same split.
"""

from pathlib import Path
from typing import Any

from medseg_kd.datasets.conversion.convert import Recipe
from medseg_kd.datasets.conversion.convert import convert as convert_volumes
from medseg_kd.datasets.conversion.known.download import Download, folder_in
from medseg_kd.datasets.conversion.label_maps import LabelMap
from medseg_kd.datasets.conversion.writing import own_manifest
from medseg_kd.datasets.intensities import Percentiles
from medseg_kd.datasets.listings import read_text
from medseg_kd.datasets.pairs import Pair, packed_or_not
from medseg_kd.datasets.spec import Channel
from medseg_kd.errors import UserError

SPLITS = ("published", "official")
CLASSES = ("background", "RV", "MYO", "LV")
# lists_ACDC of MT-UNet, whose data and lists TransCASCADE, EMCAD, AgileFormer and others use.
_VAL = (19, 21, 29, 33, 41, 50, 61, 71, 76, 80)
_TEST = (2, 3, 8, 9, 12, 14, 17, 24, 42, 48, 49, 53, 55, 64, 67, 79, 81, 88, 92, 95)
_TRAINING, _TESTING = range(1, 101), range(101, 151)
_EXPECTED = "training/patient001/Info.cfg and so on, and testing/patient101, of the folder database"


def find(raw: Path, split: str) -> Download:
    """The frames of the patients of a split.

    Args:
        raw: ``database`` of the download, or a folder around it.
        split: ``published``, 70, 10 and 20 of the 100 patients of ``training``; or ``official``, those 100 and the 50
            of ``testing``.
    """
    root = folder_in(raw, ("training", "database/training", "ACDC/database/training"), _EXPECTED).parent
    patients: dict[str, list[int]] = {"train": [*_TRAINING], "test": [*_TESTING]}
    if split == "published":
        train = [number for number in _TRAINING if number not in _VAL + _TEST]
        patients = {"train": train, "val": [*_VAL], "test": [*_TEST]}
    found = Download({part: [] for part in patients}, [])
    for part, number in ((part, number) for part, numbers in patients.items() for number in numbers):
        folder = root / ("training" if number in _TRAINING else "testing") / f"patient{number:03d}"
        if not folder.is_dir():
            found.missing.append(folder.relative_to(raw).as_posix())
            continue
        for phase, frame in _frames(folder / "Info.cfg").items():
            stem = f"{folder.name}_frame{frame:02d}"
            pair = Pair(f"{folder.name}_{phase}", *(packed_or_not(folder / f"{stem}{end}") for end in ("", "_gt")))
            lost = [path.relative_to(raw).as_posix() for path in (pair.image, pair.label) if not path.is_file()]
            found.missing.extend(lost)
            found.splits[part].extend([] if lost else [pair])
    return found


def convert(found: Download, out: Path, overwrite: bool, note: str) -> dict[str, Any]:
    """Write slices and volumes; values from the least to the largest of a frame become 0 to 1, as in SSL4MIS."""
    if stays := {*(own_manifest(out) or {}).get("splits", ())} - {*found.splits}:
        raise UserError(f"--out {out} is split otherwise and holds {', '.join(stays)} too: choose another folder")
    labels = LabelMap("none", {value: value for value in range(len(CLASSES))}, None, CLASSES)
    recipe = Recipe(Channel("MR", Percentiles(0, 100)), labels, stacked=True)
    return convert_volumes(found.splits, out, recipe, "prepare_dataset acdc", overwrite, note)


def _frames(path: Path) -> dict[str, int]:
    """The frames of end diastole and end systole, counted from 1, as ``Info.cfg`` tells them."""
    said = dict(line.split(":", 1) for line in read_text(path).splitlines() if ":" in line)
    frames = {phase: said.get(phase, "").strip() for phase in ("ED", "ES")}
    if not all(frame.isdecimal() for frame in frames.values()) or len({*frames.values()}) < 2:
        told = ", ".join(f"{phase}: {frame or 'nothing'}" for phase, frame in frames.items())
        raise UserError(f"{path} tells {told}: expected two frames, as in ED: 1 and ES: 12. Copy it again")
    return {phase: int(frame) for phase, frame in frames.items()}
