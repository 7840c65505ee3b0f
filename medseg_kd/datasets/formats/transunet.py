"""TransUNet's layout: npz slices for training, one h5 volume per test case, lists of both.

What is written is the same, byte for byte, when it is written again from the same arrays.
"""

import hashlib
import io
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from medseg_kd.datasets.formats.base import Case, Format, numbered, opened, visible
from medseg_kd.datasets.pixels import Raw
from medseg_kd.datasets.spec import Channel
from medseg_kd.errors import UserError, some
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
        return split in FOLDERS and any(visible((root / FOLDERS[split]).glob(_PATTERNS[split])))

    def find(self, split: str) -> list[Case]:
        folder = self.root / FOLDERS[split]
        found = {_stem(path): path for path in visible(folder.glob(_PATTERNS[split]))}
        names = _listed(self.root, LIST_FILES[split]) or sorted(found)
        if missing := [name for name in names if name not in found]:
            raise UserError(
                f"{folder} does not hold what lists/*/{LIST_FILES[split]} names: {some(missing)} missing. Prepare or "
                "copy the data again"
            )
        if split == "test":
            return [self._volume(name, found[name], "image", "label") for name in names]
        cases = defaultdict(list)
        for name in names:
            case, index = numbered(found[name])
            cases[case].append((index, found[name]))
        return [Case.of_slices(case, files) for case, files in sorted(cases.items())]

    def _volume(self, name: str, path: Path, *arrays: str) -> Case:
        """Case of an h5 file with these arrays, once its shape is seen to be plausible."""
        shape = opened(path, lambda file: _shape(file, *arrays))
        depth, height, width = shape[0], shape[-2], shape[-1]
        told = ((self.manifest.get("splits") or {}).get("test", {}).get(name) or {}).get("shape")
        # Like (H, W, S): the last axis alone is of another length, or far shorter than all.
        looks_turned = (depth == height != width) or 2 * width < min(height, depth)
        if self.axes is None and told != list(shape) and looks_turned:
            raise UserError(
                f"{path}: a volume of {shape} would be {depth} slices of {height}x{width}. If its axes are (row, "
                "column, slice), set dataset.format_options=dict(axes='HWS'); if it really is so, dict(axes='SHW')"
            )
        return Case(name, width if self.axes == "HWS" else depth, volume=path)

    def load(self, source: Path) -> Raw:
        return self._load(source, "image", "label")

    def load_image(self, source: Path) -> Raw:
        """Read a slice or volume without its label, which need not be there."""
        if source.suffix != ".npz":
            self._volume(source.name, source, "image")
        return self._load(source, "image")

    def load_label(self, source: Path) -> Raw:
        """Read the label of a slice or volume, in place of its image too, which need not be there."""
        return self._load(source, "label")

    def _load(self, source: Path, *names: str) -> Raw:
        if source.suffix == ".npz":
            with np.load(source, allow_pickle=False) as file:
                _require(source, file, *names)
                arrays = {name: file[name] for name in names}
                spacing = _numbers(file["spacing"]) if "spacing" in file else None
                return Raw(arrays[names[0]], arrays.get("label"), spacing)
        with h5py.File(source, "r") as file:
            _require(source, file, *names, *(["spacing"] if "spacing" in file else []))
            told = file.attrs.get("spacing", file.get("spacing"))
            spacing = None if told is None else _numbers(told)
            arrays, geometry = {name: file[name][:] for name in names}, _geometry(source, file.attrs)
        if names[0] == "image" and arrays["image"].ndim == 4:  # slices first on disk
            arrays["image"] = arrays["image"].swapaxes(0, 1)
        elif self.axes == "HWS":
            arrays = {name: np.moveaxis(array, -1, 0) for name, array in arrays.items()}
        return Raw(arrays[names[0]], arrays.get("label"), spacing, geometry)


def _listed(root: Path, name: str) -> list[str]:
    """Names in the split list ``lists/*/<name>`` of a folder; empty where there is none. None leads out of it."""
    lists = visible(root.glob(f"lists/*/{name}"))
    if len(lists) > 1:
        raise UserError(f"{root}: several lists for one split ({', '.join(map(str, lists))}); keep one")
    if not lists:
        return []
    path, content = lists[0], lists[0].read_bytes()
    try:
        text = content.decode("utf-16" if content[:2] in (BOM_UTF16_LE, BOM_UTF16_BE) else "utf-8-sig")
    except UnicodeError as error:
        raise UserError(f"{path} is no text in UTF-8. Save it as UTF-8, one name a line") from error
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if not names:
        raise UserError(f"{path} names nothing. Remove it to take every file of the split, or write it again")
    if wrong := [name for name in names if name in (".", "..") or "/" in name or "\\" in name]:
        raise UserError(f"{path} names {wrong[0]!r}, which is no file name: expected names without folders")
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise UserError(f"{path} names {', '.join(twice[:5])} more than once")
    return names


def _stem(path: Path) -> str:
    return path.name.removesuffix(".npz").removesuffix(".h5").removesuffix(".npy")


def _shape(path: Path, *arrays: str) -> tuple[int, ...]:
    """Shape of a volume that has these arrays, from its header."""
    with h5py.File(path, "r") as file:
        _require(path, file, *arrays)
        shape = file["image"].shape
    if len(shape) not in (3, 4):
        raise UserError(f"{path}: an image of shape {shape}, expected (slices, rows, columns)")
    return shape


def _geometry(path: Path, attributes: Any) -> dict[str, Any] | None:
    """Where a volume lies, if its attributes tell it."""
    if not {"origin", "direction"} <= attributes.keys():
        return None
    geometry: dict[str, Any] = {name: _numbers(attributes[name]) for name in ("origin", "direction")}
    for (name, numbers), count in zip(geometry.items(), (3, 9), strict=True):
        if len(numbers) != count or not np.isfinite(numbers).all():
            raise UserError(f"{path}: {name} is {numbers}, expected {count} numbers. Prepare the case again")
    return {**geometry, "orientation": attributes.get("original_orientation")}


def _require(path: Path, content: Any, *names: str) -> None:
    """Refuse a file that lacks an array, or takes it from another file."""
    if missing := [name for name in names if name not in content]:
        raise UserError(
            f"{path} holds {', '.join(content) or 'nothing'}, expected {' and '.join(names)}: no {missing[0]}"
        )
    for name in names if isinstance(content, h5py.File) else ():
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
        label: (S, H, W) classes, written as float32 too.
        attributes: Of the h5; at least ``spacing``, mm, (z, y, x), which a slice keeps too, as a third array.

    Returns:
        sha256 of each written file, by its path inside ``root``.
    """
    folder = root / FOLDERS[split]
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"image": np.asarray(image, np.float32), "label": np.asarray(label, np.float32)}
    if split == "train":
        paths = [folder / f"{case}_slice{index:03d}.npz" for index in range(len(image))]
        for index, path in enumerate(paths):
            buffer = io.BytesIO()
            slices = {name: array[index] for name, array in arrays.items()}
            np.savez(buffer, **slices, spacing=np.asarray(attributes["spacing"], np.float64))
            path.write_bytes(buffer.getvalue())
    else:
        paths = [folder / f"{case}.npy.h5"]
        packed = {"chunks": (1, *image.shape[1:]), "compression": "gzip", "compression_opts": 1, "shuffle": True}
        with h5py.File(paths[0], "w") as file:
            for name, array in arrays.items():
                file.create_dataset(name, data=array, **packed)
            file.attrs.update(attributes)
    return {path.relative_to(root).as_posix(): digest(path) for path in paths}


def write_list(root: Path, split: str, files: list[str]) -> None:
    """Writes the list of a split: the names of its files, which :func:`write_case` returned."""
    path = root / LISTS / LIST_FILES[split]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{_stem(Path(file))}\n" for file in files), encoding="utf-8")


def digest(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
