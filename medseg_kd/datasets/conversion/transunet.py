"""Writing the TransUNet layout: npz slices for training, one h5 volume per test case, the lists of both.

Every file is the same, byte for byte, when it is written again from the same arrays.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np

LISTS = Path("lists") / "lists_Synapse"
FOLDERS = {"train": "train_npz", "test": "test_vol_h5"}
LIST_FILES = {"train": "train.txt", "test": "test_vol.txt"}


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
