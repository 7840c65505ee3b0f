"""The cases among the files and folders that a user names."""

import re
from collections.abc import Sequence
from pathlib import Path

from medseg_kd.datasets.dicom import holds_series
from medseg_kd.datasets.listings import read_text, split_ending
from medseg_kd.errors import UserError
from medseg_kd.inference.source import IMAGES, PREPARED, VOLUMES

_ENDINGS = (*VOLUMES, *PREPARED, *IMAGES)
_CHANNEL = re.compile(r"(.+)_(\d{4})")


def find_cases(inputs: Sequence[str | Path], channels: int) -> list[list[Path]]:
    """The files of each case: those that are named, and all that can be read in the folders that are named.

    Args:
        inputs: Files, folders of them and of DICOM series, and lists (``.txt``, or any with ``@`` before it) of those,
            a path a line.
        channels: Where there are several, the files of a volume are ``<case>_0000`` and so on, as in nnU-Net.

    Returns:
        Files of each case; the folder of a series; a folder that holds nothing, which is no case.

    Raises:
        UserError: A list cannot be read, or there is nothing at all.
    """
    named = [path for each in inputs for path in _listed(each)]
    found = [(path, _inside(path) if path.is_dir() else [path]) for path in named]
    if not any(inside for _, inside in found):
        raise UserError(f"nothing to predict in {', '.join(map(str, inputs))}")
    cases: dict[tuple[Path, str], list[Path]] = {}
    for file in dict.fromkeys(file for path, inside in found for file in inside or [path]):
        channel = _CHANNEL.fullmatch(stem(file)) if channels > 1 and file.name.lower().endswith(VOLUMES) else None
        cases.setdefault((file.parent, channel[1] if channel else file.name), []).append(file)
    return [sorted(case) for case in cases.values()]


def case_name(files: Sequence[Path]) -> str:
    """The name of a case, without channel and ending.

    Raises:
        UserError: Its channels are not 0000, 0001 and so on.
    """
    numbers = [stem(file).rpartition("_")[2] for file in files]
    if len(files) > 1 and numbers != [f"{number:04d}" for number in range(len(files))]:
        raise UserError(f"channels {', '.join(numbers)}: expected 0000, 0001 and so on")
    return stem(files[0]).removesuffix("_0000" if len(files) > 1 else "")


def stem(file: Path) -> str:
    """A file's name without its ending; a folder's name."""
    name = file.name or file.resolve().name
    return name if file.is_dir() else split_ending(name, _ENDINGS)[0]


def _listed(given: str | Path) -> list[Path]:
    """What an argument stands for: itself, or the paths of a list."""
    name = str(given)
    if not (name.startswith("@") or name.lower().endswith(".txt")):
        return [Path(given)]
    lines = read_text(Path(name.removeprefix("@"))).splitlines()
    return [Path(line.strip()) for line in lines if line.strip() and not line.startswith("#")]


def _inside(folder: Path) -> list[Path]:
    """What can be predicted in a folder: the series that itself is, its files, its folders that are series."""
    try:
        seen = [path for path in sorted(folder.iterdir()) if path.name[0] != "."]
    except OSError:
        return [folder]  # which says why when it is read
    files = [path for path in seen if path.is_file() and path.name.lower().endswith(_ENDINGS)]
    series = [path for path in seen if path.is_dir() and holds_series(path)]
    return ([folder] if holds_series(folder) else []) + files + series
