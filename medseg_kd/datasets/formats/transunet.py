"""TransUNet's layout: npz slices for training, one h5 volume per validation or test case, lists of all.

What is written is the same, byte for byte, when it is written again from the same arrays.
"""

import hashlib
import io
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from medseg_kd.datasets.formats.base import Case, Format, numbered, visible
from medseg_kd.datasets.hdf5 import find_arrays, read_array, read_numbers, read_word
from medseg_kd.datasets.integrity import opened
from medseg_kd.datasets.listings import is_plain_name, read_text
from medseg_kd.datasets.npz import read_npz
from medseg_kd.datasets.pixels import Raw
from medseg_kd.datasets.spec import Channel
from medseg_kd.datasets.volumes import ORIENTATIONS
from medseg_kd.errors import UserError, some
from medseg_kd.registry import FORMATS

LISTS = Path("lists") / "lists_Synapse"
FOLDERS = {"train": "train_npz", "val": "val_vol_h5", "test": "test_vol_h5"}
LIST_FILES = {"train": "train.txt", "val": "val_vol.txt", "test": "test_vol.txt"}
_PATTERNS = {"train": "*.npz", "val": "*.h5", "test": "*.h5"}
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
    files = "train_npz/*.npz, val_vol_h5/*.h5, test_vol_h5/*.h5"
    prepared = True
    channels = (Channel("CT"),)

    def __init__(self, root: Path, axes: str | None = None) -> None:
        super().__init__(root)
        if axes not in (None, *_AXES):
            raise UserError(f"dataset.format_options.axes is {axes!r}, expected one of {', '.join(_AXES)}")
        self.axes = axes

    @classmethod
    def holds(cls, root: Path, split: str) -> bool:
        return any(visible((root / FOLDERS[split]).glob(_PATTERNS[split])))

    def find(self, split: str) -> list[Case]:
        folder = self.root / FOLDERS[split]
        found: dict[str, Path] = {}
        for path in visible(folder.glob(_PATTERNS[split])):
            with self.skipping():
                if (twin := found.setdefault(_stem(path), path)) != path:
                    raise UserError(f"{twin} and {path.name} are the same case: keep one of them")
        names = _listed(self.root, LIST_FILES[split]) or sorted(found)
        with self.skipping():
            if missing := [name for name in names if name not in found]:
                raise UserError(
                    f"{folder} does not hold what lists/*/{LIST_FILES[split]} names: {some(missing)} missing. Prepare "
                    "or copy the data again"
                )
        cases: list[Case] = []
        slices = defaultdict(list)
        for name, path in ((name, found[name]) for name in names if name in found):
            with self.skipping():
                if split != "train":
                    cases.append(self._volume(name, path, "image", "label"))
                else:
                    case, index = numbered(path)
                    slices[case].append((index, path))
        for case, files in sorted(slices.items()):
            with self.skipping():
                cases.append(Case.of_slices(case, files))
        return cases

    def _volume(self, name: str, path: Path, *arrays: str) -> Case:
        """Case of an h5 file with these arrays, once its shape is seen to be plausible."""
        shape = opened(path, lambda file: _shape(file, *arrays))
        depth, height, width = shape[0], shape[-2], shape[-1]
        told = [cases[name].get("shape") for cases in self.manifest.get("splits", {}).values() if name in cases]
        # Like (H, W, S): the last axis alone is of another length, or far shorter than all.
        looks_turned = (depth == height != width) or 2 * width < min(height, depth)
        if self.axes is None and list(shape) not in told and looks_turned:
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
            arrays = read_npz(source, names, ["spacing"])
            return Raw(arrays[names[0]], arrays.get("label"), _numbers(arrays.get("spacing")))
        with h5py.File(source, "r") as file:
            found = find_arrays(source, file, names)
            spacing = read_numbers(source, file, "spacing")
            if spacing is None and file.get("spacing", getlink=True):
                spacing = read_array(source, *find_arrays(source, file, ["spacing"]))
            arrays = {name: read_array(source, array) for name, array in zip(names, found, strict=True)}
            geometry = _geometry(source, file)
        if names[0] == "image" and arrays["image"].ndim == 4:  # slices first on disk
            arrays["image"] = arrays["image"].swapaxes(0, 1)
        elif self.axes == "HWS":
            arrays = {name: np.moveaxis(array, -1, 0) for name, array in arrays.items()}
        return Raw(arrays[names[0]], arrays.get("label"), _numbers(spacing), geometry)


def _listed(root: Path, name: str) -> list[str]:
    """Names in the split list ``lists/*/<name>`` of a folder; empty where there is none. None leads out of it."""
    lists = visible(root.glob(f"lists/*/{name}"))
    if len(lists) > 1:
        raise UserError(f"{root}: several lists for one split ({', '.join(map(str, lists))}); keep one")
    if not lists:
        return []
    path = lists[0]
    lines = {number: line.strip() for number, line in enumerate(read_text(path).splitlines(), 1) if line.strip()}
    names = list(lines.values())
    if not names:
        raise UserError(f"{path} names nothing. Remove it to take every file of the split, or write it again")
    if wrong := [number for number, name in lines.items() if not is_plain_name(name)]:
        raise UserError(
            f"{path}, line {wrong[0]}: {lines[wrong[0]]!r} is no file name. Expected the names of files in this data "
            "folder, without folders"
        )
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise UserError(f"{path} names {some(twice)} more than once")
    return names


def _stem(path: Path) -> str:
    return path.name.removesuffix(".npz").removesuffix(".h5").removesuffix(".npy")


def _shape(path: Path, *arrays: str) -> tuple[int, ...]:
    """Shape of a volume that has these arrays, from its header."""
    with h5py.File(path, "r") as file:
        shape: tuple[int, ...] = find_arrays(path, file, arrays)[0].shape
    if len(shape) not in (3, 4):
        raise UserError(f"{path}: an image of shape {shape}, expected (slices, rows, columns)")
    return shape


def _geometry(path: Path, file: h5py.File) -> dict[str, Any] | None:
    """Where a volume lies, if its attributes tell it."""
    if not {"origin", "direction"} <= file.attrs.keys():
        return None
    geometry: dict[str, Any] = {}
    for name, count in (("origin", 3), ("direction", 9)):
        geometry[name] = _numbers(read_numbers(path, file, name)) or ()
        if len(geometry[name]) != count or not np.isfinite(geometry[name]).all():
            raise UserError(f"{path}: {name} is {geometry[name]}, expected {count} numbers. Prepare the case again")
    orientation = read_word(path, file, "original_orientation")
    if orientation is not None and orientation not in ORIENTATIONS:
        raise UserError(f"{path}: original_orientation is {orientation!r}, expected one such as RAS")
    return {**geometry, "orientation": orientation}


def _numbers(values: Any) -> tuple[float, ...] | None:
    """A few numbers as plain floats."""
    return None if values is None else tuple(np.asarray(values, float).ravel()[:10].tolist())


def write_case(
    root: Path, split: str, case: str, image: np.ndarray, label: np.ndarray, attributes: dict[str, Any]
) -> dict[str, str]:
    """Writes one case: ``train_npz/<case>_slice<NNN>.npz`` files or ``<split>_vol_h5/<case>.npy.h5``.

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
        paths, buffer = [folder / f"{case}.npy.h5"], io.BytesIO()
        packed = {"chunks": (1, *image.shape[1:]), "compression": "gzip", "compression_opts": 1, "shuffle": True}
        with h5py.File(buffer, "w") as file:  # on a full disk HDF5 itself would end the process
            for name, array in arrays.items():
                file.create_dataset(name, data=array, **packed)
            file.attrs.update(attributes)
        paths[0].write_bytes(buffer.getbuffer())
    return {path.relative_to(root).as_posix(): digest(path) for path in paths}


def write_list(root: Path, split: str, files: list[str]) -> None:
    """Writes the list of a split: the names of its files, which :func:`write_case` returned."""
    path = root / LISTS / LIST_FILES[split]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{_stem(Path(file))}\n" for file in files), encoding="utf-8")


def digest(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
