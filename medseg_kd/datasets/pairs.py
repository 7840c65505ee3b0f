"""Which image belongs to which label, by file name."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from medseg_kd.datasets.listings import split_ending
from medseg_kd.errors import UserError, some

SUFFIXES = (".nii.gz", ".nii")
_IMAGE = r"images?|img|ct|volume|vol|scan"
_LABEL = r"labels?|segmentations?|segmentation|seg|masks?|gt"
_CHANNEL = "_0000"
"""nnU-Net's suffix of the first channel."""


@dataclass(frozen=True)
class Pair:
    """One patient: the case name, the image file and the label file."""

    case: str
    image: Path
    label: Path


def find_pairs(images: Path, labels: Path) -> list[Pair]:
    """Pairs images with labels: two files, two folders, or one folder that holds both.

    Names are equal up to the words around them: ``case7`` and ``case7``, ``img0001`` and ``label0001``,
    ``liver_3_0000`` (nnU-Net's channel suffix) and ``liver_3``, ``volume-4`` and ``segmentation-4``. In one folder,
    files whose name begins or ends with ``label``, ``seg``, ``mask`` or ``gt`` are the labels.

    Returns:
        The pairs in natural order of their case names (2 before 10). Whatever stands alone is an error.
    """
    found = find_cases(images, labels, with_unlabelled=False)
    return [Pair(case, image, label) for case, (image, label) in found.items() if label is not None]


def find_cases(images: Path, labels: Path, with_unlabelled: bool) -> dict[str, tuple[Path, Path | None]]:
    """Image and label of each case, as :func:`find_pairs` pairs them; ``with_unlabelled`` an image may stand alone."""
    for option, path in (("--images", images), ("--labels", labels)):
        if not path.exists():
            raise UserError(f"{option} {path} does not exist: expected a NIfTI file or a folder of NIfTI files.")
    if images.is_file() != labels.is_file():
        raise UserError(f"--images {images} and --labels {labels}: give two files or two folders.")
    if images.is_file():
        key = _image_key(_stem(images), {_label_key(_stem(labels), {_stem(images)})})
        return {_case_name(key, images): (images, labels)}
    image_files, label_files = _some_volumes(images, "--images"), _some_volumes(labels, "--labels")
    if images.resolve() == labels.resolve():
        label_files = [path for path in label_files if _key(_stem(path), _LABEL) != _stem(path)]
        image_files = [path for path in image_files if path not in label_files]
        if len(image_files) == len(label_files) == 1:
            name = _case_name(_image_key(_stem(image_files[0])), image_files[0])
            return {name: (image_files[0], label_files[0])}
    stems = {_stem(path) for path in image_files}
    label_of = _by_key({path: _label_key(_stem(path), stems) for path in label_files})
    image_of = _by_key({path: _image_key(_stem(path), label_of) for path in image_files})
    alone = [] if with_unlabelled else sorted(image_of[key].name for key in image_of.keys() - label_of.keys())
    orphans = sorted(label_of[key].name for key in label_of.keys() - image_of.keys())
    if alone or orphans:
        found = [f"no label in {labels} for {some(alone)}"] * bool(alone)
        found += [f"no image in {images} for {some(orphans)}"] * bool(orphans)
        raise UserError(
            f"images and labels do not pair: {'; '.join(found)}. Expected equal names, as in `case7` and `case7`, "
            "`img0001` and `label0001` or `case7_0000` and `case7`. Rename or move these files."
            f"{' In training, a teacher may label images (model.teacher_labels=True).' * bool(alone)}"
        )
    return {case: (image_of[key], label_of.get(key)) for case, key in _named(image_of, images)}


def find_images(folder: Path) -> dict[str, Path]:
    """The images of a folder that has no labels, by their case names, as :func:`find_pairs` names and orders them."""
    stems = {path: _stem(path) for path in _some_volumes(folder, "--images")}
    # A channel's number is in all names; among others 0000 is that of a case.
    numbered = not all(stem.endswith(_CHANNEL) for stem in stems.values())
    cases = {_key(stem, _IMAGE) for stem in stems.values() if numbered}
    image_of = _by_key({path: _image_key(stem, cases) for path, stem in stems.items()})
    return {case: image_of[key] for case, key in _named(image_of, folder)}


def natural(name: str) -> list[int | str]:
    """What names are sorted by in natural order, in which 2 comes before 10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def volumes_in(folder: Path) -> list[Path]:
    """NIfTI files directly in a folder, in order; none where there is no folder."""
    return sorted(p for p in folder.glob("*") if p.name.lower().endswith(SUFFIXES) and not p.name.startswith("."))


def packed_or_not(stem: Path) -> Path:
    """The NIfTI file of this name without ending; where there is none, the name that it should have."""
    names = [stem.with_name(stem.name + suffix) for suffix in SUFFIXES]
    return next((path for path in names if path.is_file()), names[0])


def _some_volumes(folder: Path, option: str) -> list[Path]:
    """NIfTI files directly in a folder that an option names: there has to be one."""
    if files := volumes_in(folder):
        return files
    inner = sorted(path.name for path in folder.iterdir() if path.is_dir())
    hint = f" It holds the folders {some(inner)}: name one of them." if inner else ""
    raise UserError(f"{option} {folder} holds no .nii or .nii.gz file.{hint}")


def _named(image_of: Mapping[str, Path], folder: Path) -> list[tuple[str, str]]:
    """Case name and key of images, in natural order of the former (2 before 10)."""
    named = [(_case_name(key, path), key) for key, path in image_of.items()]
    named.sort(key=lambda each: natural(each[0]))
    names = [name for name, _ in named]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"several images in {folder} give the same case name: {some(twice)}. Rename them.")
    return named


def _by_key(keys: Mapping[Path, str]) -> dict[str, Path]:
    """Files by the part of their name that image and label share."""
    keyed: dict[str, Path] = {}
    for path, key in keys.items():
        if key in keyed:
            raise UserError(f"{keyed[key]} and {path.name} are both named {key!r}: keep one of them.")
        keyed[key] = path
    return keyed


def _stem(path: Path) -> str:
    """File name without .nii or .nii.gz."""
    stem, ending = split_ending(path.name, SUFFIXES)
    if not ending:
        raise UserError(f"{path} is not a NIfTI file: expected .nii or .nii.gz (convert DICOM series first).")
    return stem


def _key(stem: str, words: str) -> str:
    """``img0001`` and ``0001_image`` give ``0001``; other names stay."""
    stem = re.sub(rf"^(?:{words})(?=[\d_.-]|$)[_.-]*", "", stem, flags=re.IGNORECASE)
    return re.sub(rf"[_.-]+(?:{words})$", "", stem, flags=re.IGNORECASE)


def _image_key(stem: str, cases: Collection[str] = ()) -> str:
    """The key of an image: ``0001_0000`` gives ``0001`` too, unless it is the name of a case itself."""
    key = _key(stem, _IMAGE)
    return key if key in cases else _key(stem.removesuffix(_CHANNEL) or stem, _IMAGE)


def _label_key(stem: str, images: Collection[str]) -> str:
    """The key of a label: that of an image where one has the very same name."""
    return _key(stem, _IMAGE if stem in images else _LABEL)


def _case_name(key: str, image: Path) -> str:
    """A name that is safe in a file name: the key, ``case<N>`` for a bare number, else the folder's name."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", key or image.resolve().parent.name).strip("-") or "case"
    return f"case{name}" if name.isdigit() else name
