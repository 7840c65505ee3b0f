"""The raw BTCV download (Synapse syn3193805): where its volumes lie, TransUNet's split, what is often taken for it."""

from pathlib import Path

from medseg_kd.datasets.intensities import Window
from medseg_kd.datasets.pairs import Pair, packed_or_not
from medseg_kd.datasets.spec import Channel
from medseg_kd.errors import UserError

CHANNEL = Channel("CT", Window(-125, 275))
TEST_CASES = (1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38)
TRAIN_CASES = tuple(n for n in (*range(1, 11), *range(21, 41)) if n not in TEST_CASES)

_RIGHT = (
    "Expected the unpacked Abdomen/RawData.zip of https://www.synapse.org/#!Synapse:syn3193805 with "
    "Training/img/img0001.nii.gz and Training/label/label0001.nii.gz (30 volumes each); docs/data.md says how."
)
_SLICES = "holds preprocessed slices, which need no conversion: train with --data-root {raw}"
_CERVIX = "is the Cervix archive (<number>-Image.nii.gz), with other organs"
# What another data set that looks alike is known by.
_MISTAKEN = {
    "train_npz": _SLICES,
    "test_vol_h5": _SLICES,
    "**/*-Mask.nii*": _CERVIX,
    "**/*-Image.nii*": _CERVIX,
    "**/img????-????.nii*": "is an archive of registered pairs (Reg-Training-...), not of the original volumes",
}
# What a folder without labelled volumes holds instead.
_WITHOUT_TRAINING = {
    "**/*.zip": "holds {found}, which is not unpacked: unzip it and name the folder",
    "**/img00[678]?.nii*": "holds only the Testing volumes, which have no public labels: the Training folder is needed",
    "**/img00??.nii*": "holds images without the folder of their labels beside them (Training/img and Training/label)",
}


def find_btcv(raw: Path) -> dict[str, list[Pair]]:
    """Finds the 30 labelled volumes and splits them as TransUNet does; says which archive it is where it is another.

    Args:
        raw: The unpacked archive, or a folder in it: the one that holds ``RawData``, ``Training`` or ``img``.

    Returns:
        18 pairs of ``train`` and 12 of ``test``, the cases named ``case0001`` to ``case0040``.
    """
    if not raw.exists():
        raise UserError(f"--raw {raw} does not exist. {_RIGHT}")
    if raw.is_file():
        todo = f"Unpack it (unzip {raw} -d {raw.parent}) and name the folder." if raw.suffix == ".zip" else _RIGHT
        raise UserError(f"--raw {raw} is a file, not a folder. {todo}")
    places = (raw / inner for inner in (".", "Training", "RawData/Training", "Abdomen/RawData/Training"))
    training = next((each for each in places if (each / "img").is_dir() and (each / "label").is_dir()), None)
    for pattern, problem in (_MISTAKEN if training else _MISTAKEN | _WITHOUT_TRAINING).items():
        if found := sorted((training or raw).glob(pattern)):
            raise UserError(f"--raw {raw} {problem.format(raw=training or raw, found=found[0].name)}. {_RIGHT}")
    if training is None:
        raise UserError(f"--raw {raw} holds no Training/img and Training/label. {_RIGHT}")
    splits = {
        split: [
            Pair(f"case{n:04d}", *(packed_or_not(training / kind / f"{kind}{n:04d}") for kind in ("img", "label")))
            for n in numbers
        ]
        for split, numbers in (("train", TRAIN_CASES), ("test", TEST_CASES))
    }
    files = [path for pairs in splits.values() for pair in pairs for path in (pair.image, pair.label)]
    if missing := [path.relative_to(training).as_posix() for path in files if not path.is_file()]:
        raise UserError(f"{training} lacks {len(missing)} of 60 files, such as {', '.join(missing[:5])}. {_RIGHT}")
    return splits
