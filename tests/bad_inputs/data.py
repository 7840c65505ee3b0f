"""Data that are damaged, of another kind or hostile, trained on, tested, prepared and predicted."""

import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel
import numpy as np
from PIL import Image

from tests.bad_inputs.case import Case, data_of

_SLICE, _VOLUME = "train_npz/case0001_slice000.npz", "test_vol_h5/case0004.npy.h5"
_LISTS = "lists/lists_Synapse/"
_LARGE = 200_000


def _copy(*damages: Callable[[Path], object]) -> Callable[[Path], None]:
    """Write a copy of the phantom that is damaged."""

    def write(path: Path) -> None:
        shutil.copytree(data_of(path), path, ignore=shutil.ignore_patterns(".cache"))
        for damage in damages:
            damage(path)

    return write


def _slice(**arrays: np.ndarray) -> Callable[[Path], None]:
    """A slice that holds these arrays and nothing else."""
    return _copy(lambda root: np.savez(root / _SLICE, **arrays))


def _cut(name: str) -> Callable[[Path], None]:
    """Half of a file."""
    return _copy(lambda root: (root / name).write_bytes((root / name).read_bytes()[:300]))


def _line(name: str, line: str) -> Callable[[Path], None]:
    """A further line of a list."""
    return _copy(lambda root: (root / _LISTS / name).write_text((root / _LISTS / name).read_text() + line + "\n"))


def _linked(root: Path) -> None:
    """A volume whose image is in another file."""
    with h5py.File(root / _VOLUME, "r+") as file:
        del file["image"]
        file["image"] = h5py.ExternalLink("/etc/passwd", "image")


def _volume(name: str, values: np.ndarray) -> Callable[[Path], None]:
    """Replace an array of a volume."""

    def damage(root: Path) -> None:
        with h5py.File(root / _VOLUME, "r+") as file:
            del file[name]
            file[name] = values

    return _copy(damage)


def _pictures(image: np.ndarray | bytes, label: np.ndarray) -> Callable[[Path], None]:
    """A folder of one image and its label for each split."""

    def write(root: Path) -> None:
        for number, split in enumerate(("train", "val", "test")):
            for kind, content in (("img_dir", image), ("ann_dir", label)):
                file = root / kind / split / "one.png"
                file.parent.mkdir(parents=True)
                if isinstance(content, bytes):
                    file.write_bytes(content)
                else:
                    Image.fromarray(content + np.uint8(number)).save(file)

    return write


def _bomb() -> bytes:
    """A PNG that says it is huge."""
    header = b"IHDR" + struct.pack(">IIBBBBB", _LARGE, _LARGE, 8, 0, 0, 0, 0)
    chunks = (header, b"IDAT" + zlib.compress(bytes(100)), b"IEND")
    packed = (struct.pack(">I", len(each) - 4) + each + struct.pack(">I", zlib.crc32(each)) for each in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def _nifti(path: Path, name: str, size: int | None = None, shape: tuple[int, ...] = (8, 8, 4)) -> None:
    """A volume, or its first bytes."""
    path.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.ones(shape, np.int16), np.eye(4)), path / name)
    (path / name).write_bytes((path / name).read_bytes()[:size])


def _pair(image: int | None = None, label: tuple[int, ...] = (8, 8, 4)) -> Callable[[Path], None]:
    """An image, or its first bytes, and its label."""

    def write(path: Path) -> None:
        _nifti(path / "images", "a.nii", image)
        _nifti(path / "labels", "a.nii", shape=label)

    return write


_IMAGE, _LABEL = np.zeros((64, 64), np.float32), np.zeros((64, 64), np.uint8)
_TRAINED = {
    "a slice without its label": (_slice(image=_IMAGE), _SLICE, "label"),
    "a slice of objects": (_slice(image=np.array([[{}]], dtype=object), label=_LABEL), _SLICE),
    "a slice of text": (_slice(image=np.array([["x"]]), label=_LABEL), _SLICE),
    "half a slice": (_cut(_SLICE), _SLICE),
    "an image of NaN": (_slice(image=_IMAGE * np.nan, label=_LABEL), _SLICE),
    "a label outside": (_slice(image=_IMAGE, label=_LABEL + 77), _SLICE, "77"),
    "a label below": (_slice(image=_IMAGE, label=_LABEL.astype(np.int8) - 3), _SLICE, "-3"),
    "a label of another size": (_slice(image=_IMAGE, label=_LABEL[:32]), _SLICE, "32"),
    "a slice of no pixel": (_slice(image=_IMAGE[:0], label=_LABEL[:0]), _SLICE),
    "a list that leaves its folder": (_line("train.txt", "../../base"), "train.txt", "../../base"),
    "a list with a case that is not there": (_line("train.txt", "case0099_slice000"), "case0099_slice000"),
    "an empty folder": (lambda path: path.mkdir(), "odd holds no train split"),
    "a picture that says it is huge": (_pictures(_bomb(), _LABEL), "one.png"),
    "a picture in colour": (_pictures(np.stack([_LABEL, _LABEL + 90, _LABEL], -1), _LABEL), "channels"),
    "a picture and a label of two sizes": (_pictures(_LABEL, _LABEL[:32]), "one.png"),
}
_TESTED = {
    "half a volume": (_cut(_VOLUME), _VOLUME),
    "a volume that links to another file": (_copy(_linked), _VOLUME),
    "a volume of text": (_volume("image", np.array([[[b"x"]]])), _VOLUME),
    "a volume with a label outside": (_volume("label", np.full((4, 64, 64), 77)), _VOLUME, "77"),
    "a volume with a label of another size": (_volume("label", np.zeros((4, 64, 32))), _VOLUME),
    "a list of tests that leaves its folder": (_line("test_vol.txt", "../x"), "test_vol.txt", "../x"),
    "a list of tests with a case that is not there": (_line("test_vol.txt", "case0099"), "case0099"),
}
_PREPARED = {
    "half an image": (_pair(image=500), "a.nii"),
    "a header alone": (_pair(image=352), "a.nii"),
    "a label of another shape": (_pair(label=(8, 8, 3)), "a.nii"),
}
_PREDICTED = {name: (write, "1 input(s) could not be predicted") for name, (write, _) in [*_PREPARED.items()][:2]}
_PREPARE = (
    "--images",
    "odd/images",
    "--labels",
    "odd/labels",
    "--out",
    "out",
    "--split",
    "train",
    "--window",
    "0",
    "1",
)
DATA = [
    Case(f"{what} {name}", script, arguments, tuple(words), {"odd": write})
    for what, script, arguments, table in (
        ("train on", "train.py", ("base.py", "--data-root", "odd"), _TRAINED),
        ("test on", "test.py", ("base.py", "run", "--data-root", "odd"), _TESTED),
        ("prepare", "tools/prepare_slices.py", _PREPARE, _PREPARED),
        ("predict", "tools/predict.py", ("run", "odd/images/a.nii", "--out", "out"), _PREDICTED),
    )
    for name, (write, *words) in table.items()
]
