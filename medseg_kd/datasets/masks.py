"""Masks of any source: which files are one case, which cases are pairs, and the two of a pair on one grid."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medseg_kd.datasets.formats.base import Case, numbered, tells_slice, visible
from medseg_kd.datasets.formats.transunet import TransUNet
from medseg_kd.datasets.image_files import read_label
from medseg_kd.datasets.integrity import opened
from medseg_kd.datasets.listings import split_ending
from medseg_kd.datasets.pairs import natural
from medseg_kd.datasets.pixels import Raw
from medseg_kd.datasets.volumes import MAX_LABEL, VOLUMES, Header, read_header, read_mask
from medseg_kd.errors import UserError, some

KINDS = (VOLUMES, (".npy.h5", ".h5"), (".npz",), (".png", ".bmp", ".tif", ".tiff"))
"""Endings of masks. A folder holds those of one line; files of a later line beside them are no masks."""
_SLICES = (*KINDS[2], *KINDS[3])


@dataclass(frozen=True)
class MaskFiles:
    """Where the mask of a case is.

    Attributes:
        path: its file, or the folder of its files.
        slices: a file for each slice; None where there is one file.
        organs: the file of each organ, whose voxels are not 0, by its name; empty where labels are in one file.
    """

    path: Path
    slices: Case | None = None
    organs: Mapping[str, Path] | None = None


@dataclass(frozen=True)
class MaskPair:
    """Prediction and truth of one case."""

    case: str
    prediction: MaskFiles
    truth: MaskFiles


def find_masks(path: Path) -> tuple[dict[str, MaskFiles], list[str]]:
    """The masks of a folder by case, in natural order, and what is to be said of the rest of it.

    A case is a file (``case.nii.gz``), its slices (``case_slice001.png``, or numbered images in a folder of its own),
    or a folder with a volume for each organ (``case/liver.nii.gz``, ``case/segmentations/liver.nii.gz``).

    Raises:
        UserError: there are none, or a case is there twice.
    """
    if path.is_file():
        if not _stem(path, [ending for kind in KINDS for ending in kind]):
            raise UserError(f"{path}: expected a mask: one of {', '.join(ending for kind in KINDS for ending in kind)}")
        return {_stem(path, _endings([path])): MaskFiles(path)}, []
    if not path.is_dir():
        raise UserError(f"{path} does not exist: expected a folder of masks, or a mask")
    entries = visible(path.iterdir())
    files = [each for each in entries if each.is_file()]
    if endings := _endings(files):
        found = _files_of(files, endings)
        others = [each.name for each in files if not _stem(each, endings) and _endings([each])]
        notes = [f"{path}: not read, as masks are {endings[0]} there: {some(others)}"] if others else []
    else:
        found, notes = dict(filter(None, map(_folder_of, (each for each in entries if each.is_dir())))), []
    if not found:
        raise UserError(
            f"{path} holds no masks: expected <case>.nii.gz (or {', '.join(kind[-1] for kind in KINDS)}), or a folder "
            "for each case with its slices, or with a volume for each organ"
        )
    return {case: found[case] for case in sorted(found, key=natural)}, notes


def pair_masks(predictions: Path, truth: Path, allow_missing: bool = False) -> tuple[list[MaskPair], list[str]]:
    """Pair masks by the names of their cases, two files whatever their names, and what is to be said of the rest.

    Raises:
        UserError: a truth has no prediction, unless that is allowed.
    """
    (found, notes), (true, more) = find_masks(predictions), find_masks(truth)
    if predictions.is_file() and truth.is_file():
        return [MaskPair(next(iter(true)), *found.values(), *true.values())], []
    missing, extra = [case for case in true if case not in found], [case for case in found if case not in true]
    beside = f"; {predictions} has {some(extra)} besides" if extra else ""
    if len(missing) == len(true) or (missing and not allow_missing):
        option = (
            ", or leave them out with --allow-missing" if len(missing) < len(true) else ": cases pair by their names"
        )
        raise UserError(
            f"{len(missing)} of {len(true)} cases of {truth} have no prediction: {some(missing)}{beside}. "
            f"Add them{option}"
        )
    notes = notes + more
    if missing:
        notes.append(f"{len(missing)} of {len(true)} cases have no prediction and are in no mean: {some(missing)}")
    if extra:
        notes.append(f"{len(extra)} prediction(s) have no truth and are not scored: {some(extra)}")
    return [MaskPair(case, found[case], true[case]) for case in true if case in found], notes


def read_pair(
    prediction: MaskFiles, truth: MaskFiles, read: Callable[[MaskFiles, bool], Raw] | None = None
) -> tuple[np.ndarray, np.ndarray, tuple[float, ...] | None]:
    """Both masks of a case on one grid.

    Where the grids are the same but for turned and mirrored axes, both are turned to LPS. Of what a file does not tell
    of its place, that of the other is taken.

    Args:
        prediction, truth: neither of them a file an organ.
        read: :func:`read_labels`, or what remembers its results.

    Returns:
        The label values of both, (S, H, W) or (H, W), and the voxel size of the truth in mm, (z, y, x), or None.

    Raises:
        UserError: a file cannot be read, or the grids differ; the message says in what.
    """
    both = prediction, truth
    if prediction.slices and truth.slices and prediction.slices.indices != truth.slices.indices:
        odd = sorted({*prediction.slices.indices} ^ {*truth.slices.indices})
        raise UserError(f"{prediction.path} and {truth.path}: slices {some([*map(str, odd)])} are in one of them alone")
    placed = [read_header(each.path) for each in both if _is_volume(each)]
    turn = len(placed) < 2 or bool(placed[0].differences(placed[1]))
    found, true = ((read or read_labels)(each, turn) for each in both)
    if found.image.ndim != true.image.ndim:
        raise UserError(
            f"{prediction.path} has the shape {found.image.shape}, {truth.path} {true.image.shape}: one is an image, "
            "the other a volume"
        )
    if turn and (differences := _place(prediction.path, found, true).differences(_place(truth.path, true, found))):
        listed = placed[0].differences(placed[1]) if len(placed) == 2 else differences
        raise UserError(
            "\n  ".join([f"{prediction.path} does not lie on the grid of {truth.path}:", *listed])
            + "\n  Resample the prediction to the grid of the truth (nearest neighbour)"
        )
    return found.image, true.image, true.spacing if true.image.ndim == 3 else None


def read_labels(mask: MaskFiles, turn: bool) -> Raw:
    """The label values of a mask as an image, (S, H, W), or (H, W) of one slice; see :func:`read_pair`."""
    if mask.slices is not None:
        planes = [read_labels(MaskFiles(path), turn) for path in mask.slices.slices]
        if len(sizes := {plane.image.shape for plane in planes}) > 1:
            raise UserError(f"{mask.path}: the slices differ in size ({sorted(sizes)}); a case needs one size")
        return planes[0] if len(planes) == 1 else replace(planes[0], image=np.stack([each.image for each in planes]))
    if _is_volume(mask):
        return read_mask(mask.path, turn)
    if _stem(mask.path, KINDS[3]):
        raw = Raw(opened(mask.path, read_label))
    else:
        raw = opened(mask.path, TransUNet(mask.path.parent.parent).load_label)
    values = raw.image
    whole = values.dtype.kind in "biu" or (values.dtype.kind == "f" and np.array_equal(values, np.rint(values)))
    if values.ndim not in (2, 3) or not whole or not values.size or not 0 <= values.min() <= values.max() <= MAX_LABEL:
        raise UserError(
            f"{mask.path}: a label of shape {values.shape} and type {values.dtype}: expected 2 or 3 axes and whole "
            f"numbers in 0..{MAX_LABEL}"
        )
    return replace(raw, image=values.astype(np.min_scalar_type(int(values.max()))), label=None)


def spacing_is_known(mask: MaskFiles) -> bool:
    """Whether a mask tells the size of its voxels."""
    if mask.organs or _is_volume(mask):
        return True
    read = read_labels(mask, False)
    return read.image.ndim == 3 and read.spacing is not None


def _endings(files: Iterable[Path]) -> tuple[str, ...]:
    """The kind of the masks among some files; empty where there are none."""
    files = list(files)
    return next((kind for kind in KINDS if any(_stem(file, kind) for file in files)), ())


def _stem(file: Path, endings: Iterable[str]) -> str:
    """A file's name without its ending, "" where it has none of these."""
    stem, ending = split_ending(file.name, endings)
    return stem if ending else ""


def _files_of(files: Iterable[Path], endings: tuple[str, ...]) -> dict[str, MaskFiles]:
    """Cases of the files of a folder."""
    found: dict[str, MaskFiles] = {}
    slices: dict[str, list[tuple[int, Path]]] = defaultdict(list)
    for file in files:
        if not (name := _stem(file, endings)):
            continue
        if endings[-1] in _SLICES and tells_slice(file):
            case, index = numbered(file)
            slices[case].append((index, file))
        elif name in found:
            raise UserError(f"{found[name].path} and {file.name} are both masks of {name}: keep one of them")
        else:
            found[name] = MaskFiles(file)
    return found | {case: MaskFiles(each[0][1].parent, _slices(case, each)) for case, each in slices.items()}


def _folder_of(folder: Path) -> tuple[str, MaskFiles] | None:
    """The case of a folder; None where it holds no masks."""
    inner = folder / "segmentations"
    files = visible((inner if inner.is_dir() else folder).iterdir())
    endings = _endings(files)
    named = {_stem(file, endings): file for file in files if _stem(file, endings)}
    if endings == VOLUMES:
        return folder.name, MaskFiles(folder, organs=named)
    if endings and endings[-1] in _SLICES:
        found = [(numbered(file, folder.name)[1], file) for file in named.values()]
        return folder.name, MaskFiles(folder, _slices(folder.name, found))
    return None


def _slices(case: str, found: Iterable[tuple[int, Path]]) -> Case:
    """The slices of a case, once none is missing between them."""
    slices = Case.of_slices(case, found)
    if slices.holes:
        raise UserError(f"case {case} ({slices.slices[0].parent}) lacks the slices {some([*map(str, slices.holes)])}")
    return slices


def _is_volume(mask: MaskFiles) -> bool:
    return mask.slices is None and bool(_stem(mask.path, VOLUMES))


def _place(path: Path, mask: Raw, other: Raw) -> Header:
    """Where a mask lies; what it does not tell is taken from the other, and from nowhere where that does not either."""
    axes = mask.image.ndim
    spacing = mask.spacing or other.spacing or (1.0,) * axes
    geometry = mask.geometry or other.geometry or {"origin": (0.0,) * axes, "direction": (0.0,)}
    return Header(path, mask.image.shape[::-1], spacing[::-1], geometry["origin"], geometry["direction"])
