"""The raw BTCV download (Synapse syn3193805): where its volumes lie, TransUNet's split, what is often taken for it."""

from pathlib import Path

from medseg_kd.datasets.pairs import SUFFIXES, Pair
from medseg_kd.errors import UserError

WINDOW = (-125.0, 275.0)
TEST_CASES = (1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38)
TRAIN_CASES = tuple(n for n in (*range(1, 11), *range(21, 41)) if n not in TEST_CASES)

_RIGHT = (
    "Expected the unpacked Abdomen/RawData.zip of https://www.synapse.org/#!Synapse:syn3193805 with "
    "Training/img/img0001.nii.gz and Training/label/label0001.nii.gz (30 volumes each); docs/data.md says how."
)


def find_btcv(raw: Path) -> dict[str, list[Pair]]:
    """Finds the 30 labelled volumes and splits them as TransUNet does.

    Args:
        raw: The unpacked archive, or a folder in it: the one that holds ``RawData``, ``Training`` or ``img``.

    Returns:
        18 pairs of ``train`` and 12 of ``test``, the cases named ``case0001`` to ``case0040``.

    Raises:
        UserError: Another archive (which one, and which is right), or missing volumes.
    """
    if not raw.exists():
        raise UserError(f"--raw {raw} does not exist. {_RIGHT}")
    if raw.is_file():
        todo = f"Unpack it (unzip {raw} -d {raw.parent}) and name the folder." if raw.suffix == ".zip" else _RIGHT
        raise UserError(f"--raw {raw} is a file, not a folder. {todo}")
    training = _training_folder(raw)
    mistaken = _mistaken_for(training or raw)
    if mistaken:
        raise UserError(f"--raw {raw} {mistaken}. {_RIGHT}")
    if training is None:
        raise UserError(f"--raw {raw} {_without_training(raw)}. {_RIGHT}")
    missing: list[str] = []
    splits = {
        split: [_pair(training, number, missing) for number in numbers]
        for split, numbers in (("train", TRAIN_CASES), ("test", TEST_CASES))
    }
    if missing:
        raise UserError(f"{training} lacks {len(missing)} of 60 files, such as {', '.join(missing[:5])}. {_RIGHT}")
    return splits


def _training_folder(raw: Path) -> Path | None:
    """The folder that holds ``img`` and ``label``."""
    for inner in (".", "Training", "RawData/Training", "Abdomen/RawData/Training"):
        if (raw / inner / "img").is_dir() and (raw / inner / "label").is_dir():
            return raw / inner
    return None


def _pair(training: Path, number: int, missing: list[str]) -> Pair:
    """The pair of one volume number; names of files that are not there are added to ``missing``."""
    found = []
    for kind in ("img", "label"):
        names = [training / kind / f"{kind}{number:04d}{suffix}" for suffix in SUFFIXES]
        there = [path for path in names if path.is_file()]
        if not there:
            missing.append(f"{kind}/{names[0].name}")
        found.append((there or names)[0])
    return Pair(f"case{number:04d}", found[0], found[1])


def _mistaken_for(raw: Path) -> str | None:
    """Names another data set that looks alike; None where it is none of the known ones."""
    if any((raw / name).exists() for name in ("train_npz", "test_vol_h5")):
        return f"holds preprocessed slices, which need no conversion: train with --data-root {raw}"
    if next(raw.rglob("*-Mask.nii*"), None) or next(raw.rglob("*-Image.nii*"), None):
        return "is the Cervix archive (<number>-Image.nii.gz), with other organs"
    if next(raw.rglob("img????-????.nii*"), None):
        return "is an archive of registered pairs (Reg-Training-...), not of the original volumes"
    return None


def _without_training(raw: Path) -> str:
    """Says what a folder without labelled volumes holds instead."""
    archives = sorted(raw.rglob("*.zip"))
    if archives:
        return f"holds {archives[0].name}, which is not unpacked: unzip it and name the folder"
    if next(raw.rglob("img00[678]?.nii*"), None):
        return "holds only the Testing volumes, which have no public labels: the Training folder is needed"
    if next(raw.rglob("img00??.nii*"), None):
        return "holds images without the folder of their labels beside them (Training/img and Training/label)"
    return "holds no Training/img and Training/label"
