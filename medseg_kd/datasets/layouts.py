"""Which slices and cases a data folder holds, in the two layouts of Synapse."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from medseg_kd.errors import UserError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_SLICE_NAME = re.compile(r"^(?P<case>.+?)_slice_?(?P<index>\d+)$")
_TRANSUNET = {"train": "train_npz", "test": "test_vol_h5"}
_TRANSUNET_FILES = {"train": "*.npz", "test": "*.h5"}
_IMAGES = {"train": "train", "test": "val"}
_HINT = (
    "Set *_dataloader.dataset.data_root in the config or pass --data-root. docs/data.md says how to get and prepare "
    "data; `python tools/make_phantom.py --out data/phantom` writes a synthetic stand-in"
)


@dataclass(frozen=True)
class SliceFile:
    """One slice on disk: an npz file with image and label, or an image file and its label file."""

    case: str
    index: int
    image: str
    label: str


def find_slices(root: str | Path, split: str, layout: str = "auto") -> list[SliceFile]:
    """Slices of a split, sorted by case and index.

    Args:
        root: Data folder.
        split: ``train`` or ``test``.
        layout: ``transunet`` (``train_npz``), ``images`` (``img_dir``, ``ann_dir``), or ``auto``.

    Raises:
        UserError: The folder, the split or a listed file is missing, or a name does not tell case and slice.
    """
    root = Path(root)
    if _layout(root, split, layout) == "images":
        return sorted(_image_slices(root, _IMAGES[split]), key=lambda item: (item.case, item.index))
    if split != "train":
        raise UserError(f"{root}: the test split of the TransUNet layout is stored as volumes: use CaseDataset for it")
    folder = root / _TRANSUNET[split]
    names = _listed(root, "train.txt") or [path.stem for path in folder.glob(_TRANSUNET_FILES[split])]
    files = [folder / f"{name}.npz" for name in names]
    _require(files, f"{folder} does not hold what lists/*/train.txt names")
    return sorted((_slice(file, file) for file in files), key=lambda item: (item.case, item.index))


def find_cases(root: str | Path, split: str, layout: str = "auto") -> Mapping[str, list[SliceFile] | Path]:
    """Cases of a split: name to its h5 volume, or to its slices in order.

    Arguments and errors are those of :func:`find_slices`.
    """
    root = Path(root)
    if split == "test" and _layout(root, split, layout) == "transunet":
        folder = root / _TRANSUNET[split]
        found = {
            path.name.removesuffix(".h5").removesuffix(".npy"): path
            for path in sorted(folder.glob(_TRANSUNET_FILES[split]))
        }
        names = _listed(root, "test_vol.txt") or list(found)
        missing = [folder / f"{name}.npy.h5" for name in names if name not in found]
        _require(missing, f"{folder} does not hold what lists/*/test_vol.txt names")
        return {name: found[name] for name in names}
    cases: dict[str, list[SliceFile]] = defaultdict(list)
    for item in find_slices(root, split, layout):
        cases[item.case].append(item)
    return cases


def select_cases(known: Iterable[str], cases: Iterable[str] | None, excluded: Iterable[str], root: str) -> set[str]:
    """Names that stay when only ``cases`` are wanted (None: all) and ``excluded`` are not; a string is one name.

    Raises:
        UserError: A name that is not there, or nothing is left.
    """
    known = set(known)
    cases = [cases] if isinstance(cases, str) else cases
    excluded = [excluded] if isinstance(excluded, str) else excluded
    unknown = sorted((set(cases or ()) | set(excluded)) - known)
    if unknown:
        raise UserError(f"{root} holds no case {', '.join(unknown)}; it holds {', '.join(sorted(known))}")
    chosen = (known if cases is None else set(cases)) - set(excluded)
    if not chosen:
        raise UserError(f"{root}: no case is left after dataset.cases and dataset.exclude_cases")
    return chosen


def _layout(root: Path, split: str, layout: str) -> str:
    """The layout of a folder, once it is sure that the split is there."""
    if split not in _TRANSUNET:
        raise UserError(f"dataset.split is {split!r}, expected 'train' or 'test'")
    if not root.is_dir():
        raise UserError(f"data folder not found: {root}. {_HINT}")
    folders = {"transunet": root / _TRANSUNET[split], "images": root / "img_dir" / _IMAGES[split]}
    if layout not in ("auto", *folders):
        raise UserError(f"dataset.layout is {layout!r}, expected 'auto', 'transunet' or 'images'")
    wanted = folders if layout == "auto" else {layout: folders[layout]}
    for name, folder in wanted.items():
        if any(folder.glob(_TRANSUNET_FILES[split]) if name == "transunet" else _image_files(folder)):
            return name
    looked = " or ".join(f"{folder.relative_to(root)}/" for folder in wanted.values())
    raise UserError(f"{root} holds no {split} split: no data file in {looked}. {_HINT}")


def _listed(root: Path, name: str) -> list[str]:
    """Names in the split list of a folder; empty where there is none."""
    lists = sorted(root.glob(f"lists/*/{name}"))
    if len(lists) > 1:
        raise UserError(f"{root}: several lists for one split ({', '.join(map(str, lists))}); keep one")
    if not lists:
        return []
    names = [line.strip() for line in lists[0].read_text(encoding="utf-8").splitlines() if line.strip()]
    if not names:
        raise UserError(f"{lists[0]} names nothing. Remove it to take every file of the split, or write it again")
    return names


def _require(files: list[Path], message: str) -> None:
    """Refuse files that are not there."""
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise UserError(f"{message}: {', '.join(missing[:5])}{more} missing. Prepare or copy the data again")


def _image_slices(root: Path, folder: str) -> Iterable[SliceFile]:
    """Slices of the image layout, flat or in a folder a case."""
    images = root / "img_dir" / folder
    labels = root / "ann_dir" / folder
    for image in _image_files(images):
        label = labels / image.relative_to(images).with_suffix(".png")
        _require([label], f"{label.parent} lacks the label of {image}")
        yield _slice(image, label, image.parent.name if image.parent != images else None)


def _image_files(folder: Path) -> Iterable[Path]:
    """Image files in a folder and the folders in it."""
    return (file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)


def _slice(image: Path, label: Path, case: str | None = None) -> SliceFile:
    """A slice whose name tells its case and index; in a folder a case, a number is enough."""
    match = _SLICE_NAME.match(image.stem)
    if match:
        return SliceFile(case or match["case"], int(match["index"]), str(image), str(label))
    digits = re.search(r"(\d+)$", image.stem)
    if case and digits:
        return SliceFile(case, int(digits[1]), str(image), str(label))
    raise UserError(f"{image}: the name does not tell case and slice; expected <case>_slice<number>{image.suffix}")
