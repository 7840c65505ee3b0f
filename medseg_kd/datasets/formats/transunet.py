"""TransUNet's layout: npz slices for training, one h5 volume per test case, lists of both.

What is written is the same, byte for byte, when it is written again from the same arrays.
"""

import hashlib
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from medseg_kd.datasets.formats.base import Case, Format, opened
from medseg_kd.datasets.formats.names import listed_names, numbered, visible
from medseg_kd.datasets.manifest import read_manifest
from medseg_kd.datasets.pixels import Raw
from medseg_kd.datasets.spec import Channel
from medseg_kd.errors import UserError
from medseg_kd.registry import FORMATS

LISTS = Path("lists") / "lists_Synapse"
FOLDERS = {"train": "train_npz", "test": "test_vol_h5"}
LIST_FILES = {"train": "train.txt", "test": "test_vol.txt"}
_PATTERNS = {"train": "*.npz", "test": "*.h5"}
_AXES = ("SHW", "HWS")


@FORMATS.register_module()
class TransUNet(Format):
    """Slices and volumes as TransUNet's Synapse data has them; the values lie in [0, 1] already.

    Args:
        root: Data folder.
        axes: Order of the axes in the h5 volumes, ``SHW`` or ``HWS``; None takes SHW and refuses volumes that do not
            look like it.
    """

    name = "transunet"
    files = "train_npz/*.npz, test_vol_h5/*.h5"
    prepared = True
    channels = (Channel("CT"),)

    def __init__(self, root: Path, axes: str | None = None) -> None:
        super().__init__(root)
        if axes not in (None, *_AXES):
            raise UserError(f"dataset.format_options.axes is {axes!r}, expected one of {', '.join(_AXES)}")
        self.axes = axes

    @classmethod
    def holds(cls, root: Path, split: str) -> bool:
        """See :meth:`Format.holds`."""
        return split in FOLDERS and any(visible((root / FOLDERS[split]).glob(_PATTERNS[split])))

    def find(self, split: str) -> list[Case]:
        """See :meth:`Format.find`."""
        if split not in FOLDERS:
            raise UserError(
                f"{self.root}: dataset.split is {split!r}, but TransUNet's layout has {' and '.join(FOLDERS)}"
            )
        folder = self.root / FOLDERS[split]
        found = {_stem(path): path for path in visible(folder.glob(_PATTERNS[split]))}
        names = listed_names(self.root, LIST_FILES[split]) or sorted(found)
        if missing := [name for name in names if name not in found]:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise UserError(
                f"{folder} does not hold what lists/*/{LIST_FILES[split]} names: {', '.join(missing[:5])}{more} "
                "missing. Prepare or copy the data again"
            )
        if split == "test":
            return self._volumes({name: found[name] for name in names})
        cases = defaultdict(list)
        for name in names:
            case, index = numbered(found[name])
            cases[case].append((index, found[name]))
        return [_slices(case, files) for case, files in sorted(cases.items())]

    def _volumes(self, files: dict[str, Path]) -> list[Case]:
        """Cases of h5 files, once their shapes are seen to be plausible."""
        written = ((read_manifest(self.root) or {}).get("splits") or {}).get("test", {})
        cases = []
        for name, path in files.items():
            shape = opened(path, _shape)
            told = written.get(name, {}).get("shape")
            if self.axes is None and told != list(shape) and _looks_turned(shape):
                raise UserError(
                    f"{path}: a volume of {shape} would be {shape[0]} slices of {shape[-2]}x{shape[-1]}. If its axes "
                    "are (row, column, slice), set dataset.format_options=dict(axes='HWS'); if it really is so, "
                    "dict(axes='SHW')"
                )
            cases.append(Case(name, shape[-1] if self.axes == "HWS" else shape[0], volume=path))
        return cases

    def load(self, source: Path) -> Raw:
        """See :meth:`Format.load`."""
        if source.suffix == ".npz":
            return _npz(source)
        raw = _h5(source)
        if raw.image.ndim == 4:  # slices first on disk
            return Raw(raw.image.swapaxes(0, 1), raw.label, raw.spacing, raw.geometry)
        if self.axes == "HWS":
            label = None if raw.label is None else np.moveaxis(raw.label, -1, 0)
            return Raw(np.moveaxis(raw.image, -1, 0), label, raw.spacing, raw.geometry)
        return raw


def _stem(path: Path) -> str:
    return path.name.removesuffix(".npz").removesuffix(".h5").removesuffix(".npy")


def _slices(case: str, files: Iterable[tuple[int, Path]]) -> Case:
    indices, paths = zip(*sorted(files), strict=True)
    return Case(case, len(paths), slices=paths, indices=indices)


def _looks_turned(shape: Sequence[int]) -> bool:
    """Whether a volume looks like (H, W, S): its last axis alone is of another length, or far shorter than all."""
    depth, height, width = shape[0], shape[-2], shape[-1]
    return (depth == height != width) or 2 * width < min(height, depth)


def _npz(path: Path) -> Raw:
    """Image, label and spacing of a slice."""
    with np.load(path, allow_pickle=False) as file:
        _require(path, file, ("image", "label"))
        return Raw(file["image"], file["label"], _numbers(file["spacing"]) if "spacing" in file else None)


def _h5(path: Path) -> Raw:
    """A volume, its spacing an attribute or a data set; and where it lies."""
    with h5py.File(path, "r") as file:
        _require(path, file, ("image", "label", *(["spacing"] if "spacing" in file else [])))
        spacing = file.attrs.get("spacing", file.get("spacing"))
        image, label = file["image"][:], file["label"][:]
        if not {"origin", "direction"} <= file.attrs.keys():
            return Raw(image, label, None if spacing is None else _numbers(spacing))
        geometry = {name: _numbers(file.attrs[name]) for name in ("origin", "direction")}
        for name, count in (("origin", 3), ("direction", 9)):
            if len(geometry[name]) != count or not np.isfinite(geometry[name]).all():
                raise UserError(f"{path}: {name} is {geometry[name]}, expected {count} numbers. Prepare the case again")
        geometry["orientation"] = file.attrs.get("original_orientation")
        return Raw(image, label, None if spacing is None else _numbers(spacing), geometry)


def _shape(path: Path) -> tuple[int, ...]:
    """Shape of a volume, from its header."""
    with h5py.File(path, "r") as file:
        _require(path, file, ("image", "label"))
        shape = file["image"].shape
    if len(shape) not in (3, 4):
        raise UserError(f"{path}: an image of shape {shape}, expected (slices, rows, columns)")
    return shape


def _require(path: Path, content: Any, names: Sequence[str]) -> None:
    """Refuse a file that lacks an array, or takes it from another file."""
    if missing := [name for name in names if name not in content]:
        raise UserError(
            f"{path} holds {', '.join(content) or 'nothing'}, expected {' and '.join(names)}: no {missing[0]}"
        )
    if isinstance(content, h5py.File):
        for name in names:
            array = content[name]
            if not isinstance(array, h5py.Dataset):
                raise UserError(f"{path}: {name} is no array")
            if array.file.filename != content.filename or array.is_virtual or array.external:
                raise UserError(f"{path}: {name} is a link to another file, which is not followed. Copy the array here")


def _numbers(values: Any) -> tuple[float, ...]:
    """Numbers as plain floats."""
    return tuple(np.asarray(values, float).ravel().tolist())


def write_case(
    root: Path, split: str, case: str, image: np.ndarray, label: np.ndarray, attributes: dict[str, Any]
) -> dict[str, str]:
    """Writes one case: ``train_npz/<case>_slice<NNN>.npz`` files or ``test_vol_h5/<case>.npy.h5``.

    Args:
        image: (S, H, W) float32 in [0, 1].
        label: (S, H, W) classes.
        attributes: At least ``spacing``, mm, (z, y, x). The h5 keeps all of them as attributes; a slice keeps its
            spacing as a third array.

    Returns:
        sha256 of each written file, by its path inside ``root``.
    """
    folder = root / FOLDERS[split]
    folder.mkdir(parents=True, exist_ok=True)
    if split == "train":
        files = [
            _write_slice(folder / f"{case}_slice{index:03d}.npz", image[index], label[index], attributes["spacing"])
            for index in range(len(image))
        ]
    else:
        files = [_write_volume(folder / f"{case}.npy.h5", image, label, attributes)]
    return {path.relative_to(root).as_posix(): digest(path) for path in files}


def write_list(root: Path, split: str, files: list[str]) -> None:
    """Writes the list of a split: slice names for training, case names for testing.

    Args:
        files: Paths inside ``root``, as :func:`write_case` returns them.
    """
    names = [Path(file).name.removesuffix(".npz").removesuffix(".npy.h5") for file in files]
    path = root / LISTS / LIST_FILES[split]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def digest(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        checksum = hashlib.sha256()
        while block := file.read(1 << 20):
            checksum.update(block)
    return checksum.hexdigest()


def _write_slice(path: Path, image: np.ndarray, label: np.ndarray, spacing: tuple[float, ...]) -> Path:
    """Writes one slice: ``image`` and ``label`` (H, W) float32, ``spacing`` (3,)."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        image=image.astype(np.float32),
        label=label.astype(np.float32),
        spacing=np.asarray(spacing, dtype=np.float64),
    )
    path.write_bytes(buffer.getvalue())
    return path


def _write_volume(path: Path, image: np.ndarray, label: np.ndarray, attributes: dict[str, Any]) -> Path:
    """Writes one volume: ``image`` and ``label`` (S, H, W) float32, compressed slice by slice."""
    with h5py.File(path, "w") as file:
        for name, array in (("image", image), ("label", label)):
            file.create_dataset(
                name,
                data=array.astype(np.float32),
                chunks=(1, *array.shape[1:]),
                compression="gzip",
                compression_opts=1,
                shuffle=True,
            )
        file.attrs.update(attributes)
    return path
