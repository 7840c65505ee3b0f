"""What a reader of the documentation has when a command block begins, by the path that the page names."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from tests.datasets.volume_files import write_volume
from tests.raw_downloads import write_nnunet

STUDENT = "configs/unet/unet_r18v1c_d8_40k_synapse.py"


def scans(folder: Path, names: tuple[str, ...] = ("case1",), labels: Path | None = None, value: int = 5) -> None:
    """Volumes of 2 slices of 64x64, and labels of them."""
    for name in names:
        image = np.random.default_rng(0).random((2, 64, 64)).astype(np.float32)  # what the phantom's rule takes
        write_volume(folder / f"{name}.nii.gz", image)
        if labels is not None:
            label = (np.arange(64) * (value + 1) // 64).astype(np.uint8)
            write_volume(labels / f"{name}.nii.gz", np.broadcast_to(label, image.shape).copy())


def photographs(root: Path, *splits: str) -> None:
    for split in splits:
        for folder, shape in (("img_dir", (40, 48, 3)), ("ann_dir", (40, 48))):
            (root / folder / split).mkdir(parents=True)
            values = (
                np.random.default_rng(len(split)).integers(0, 2 if folder == "ann_dir" else 256, shape).astype(np.uint8)
            )
            Image.fromarray(values).save(root / folder / split / f"{split}.png")


def brain(root: Path) -> None:
    """nnU-Net's folder with two sequences."""
    write_nnunet(root, "abcd", "T1")
    for file in root.glob("imagesTr/*_0000.nii.gz"):
        sitk.WriteImage(sitk.ReadImage(str(file)), str(file).replace("_0000", "_0001"))
    shutil.copytree(root / "imagesTr", root / "imagesTs")
    described = root / "dataset.json"
    described.write_text(described.read_text().replace('{"0": "T1"}', '{"0": "T1", "1": "T2"}'))


def abdomen(root: Path) -> None:
    """One CT with TotalSegmentator's labels."""
    scans(root, ("image",), root / "labels", 52)
    (root / "labels/image.nii.gz").rename(root / "label_totalsegmentator.nii.gz")


def first_run(root: Path) -> None:
    shutil.copytree(root.with_name(Path(STUDENT).stem), root)
    (root / "iter_2.pth").rename(root / "iter_40000.pth")


def amos(root: Path) -> None:
    for part in ("imagesTr", "labelsTr", "imagesVa", "labelsVa"):
        scans(root / part, ("amos_0001",))


MAKERS: dict[str, Callable[[Path], None]] = {
    "raw/train": lambda path: scans(path / "images", ("pt_1", "pt_2"), path / "labels"),
    "raw/test": lambda path: scans(path / "images", ("pt_3",), path / "labels"),
    "in the folder `abdomen`": abdomen,
    "scans": lambda path: scans(path, labels=path.parent / "truth", value=8),
    "data/lesions": lambda path: photographs(path, "train", "test"),
    "data/polyps": lambda path: photographs(path, "train", "val"),
    "nnUNet_raw/Dataset001_BrainTumour": brain,
    "amos22/": amos,
    "work_dirs/first": first_run,
}
"""What a block needs, by the path that it names."""
