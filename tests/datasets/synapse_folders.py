"""Tiny folders in both layouts of Synapse; slice i of a case has the value (case number + i) / 100 in every pixel."""

from pathlib import Path

import h5py
import numpy as np
from PIL import Image

SHAPE = (12, 10)
TRAIN = {"case0005": 3, "case0010": 2}
TEST = {"case0008": 3, "case0022": 2}


def grey(case: str, index: int) -> float:
    """The value of a slice's pixels."""
    return (int(case[-2:]) + index) / 100


def slice_arrays(case: str, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Image and label of a slice, float32 as TransUNet stores both."""
    label = np.zeros(SHAPE, np.float32)
    label[2:5, 3:7] = 1 + index
    return np.full(SHAPE, grey(case, index), np.float32), label


def write_npz(root: Path, case: str, index: int, **replaced: np.ndarray) -> Path:
    """A training slice of the TransUNet layout."""
    image, label = slice_arrays(case, index)
    path = root / "train_npz" / f"{case}_slice{index:03d}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **{"image": image, "label": label, **replaced})
    return path


def write_h5(root: Path, case: str, count: int, **replaced: np.ndarray) -> Path:
    """A test volume of the TransUNet layout."""
    images, labels = zip(*(slice_arrays(case, index) for index in range(count)), strict=True)
    path = root / "test_vol_h5" / f"{case}.npy.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in {"image": np.stack(images), "label": np.stack(labels), **replaced}.items():
            file[name] = array
    return path


def write_images(root: Path, split: str, cases: dict[str, int], *, folders: bool, mode: str, suffix: str) -> None:
    """A split of MMSegmentation's layout, flat or in a folder a case."""
    for case, count in cases.items():
        for index in range(count):
            image, label = slice_arrays(case, index)
            name = Path(split, case, f"{index}") if folders else Path(split, f"{case}_slice{index:03d}")
            for kind, pixels, end in (("img_dir", (image * 255).round(), suffix), ("ann_dir", label, ".png")):
                path = (root / kind / name).with_suffix(end)
                path.parent.mkdir(parents=True, exist_ok=True)
                file = Image.fromarray(pixels.astype(np.uint8))
                (file.convert(mode) if kind == "img_dir" else file).save(path)
