"""Made-up samples of published data sets, laid out as their downloads are."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from medseg_kd.datasets.conversion import known

KVASIR = json.loads(Path(known.__file__).with_name("kvasir_seg.json").read_text())


def _volume(path: Path, array: np.ndarray, spacing: tuple[float, ...], orientation: str = "LPS") -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    sitk.WriteImage(sitk.DICOMOrient(image, orientation), str(path))


def heart(seed: int, slices: int = 3, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """A frame and its label, (slices, size + 4, size): RV 1 beside a ring of MYO 2 around LV 3."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[: size + 4, :size]
    radius = np.hypot(row - size / 2 - rng.integers(4), column - size * 0.6)
    right = np.hypot(row - size / 2, column - size * 0.2) < size / 8
    label = np.select([radius < size / 8, radius < size / 4, right], [3, 2, 1], 0).astype(np.uint8)
    label = np.stack([label] * slices)
    values = np.array([90, 260, 130, 300])[label] + rng.normal(0, 15, label.shape)
    return values.round().clip(0).astype(np.int16), label


def write_acdc(raw: Path, patients: Iterable[int], orientation: str = "LPS") -> Path:
    """``database``: of each patient ``Info.cfg``, the 4D series, two frames and their labels."""
    for number in patients:
        folder = raw / "database" / ("training" if number <= 100 else "testing") / f"patient{number:03d}"
        folder.mkdir(parents=True)
        systole = 8 + number % 5
        info = f"ED: 1\nES: {systole}\nGroup: DCM\nHeight: 184.0\nNbFrame: 30\nWeight: 95.0\n"
        (folder / "Info.cfg").write_text(info)
        (folder / f"{folder.name}_4d.nii.gz").write_bytes(b"not looked at")
        for frame in (1, systole):
            for array, end in zip(heart(100 * number + frame), ("", "_gt"), strict=True):
                path = folder / f"{folder.name}_frame{frame:02d}{end}.nii.gz"
                _volume(path, array, (1.5, 1.5, 10.0), orientation)
    (raw / "database" / "MANDATORY_CITATION.md").write_text("")
    return raw / "database"


def lesion(seed: int, size: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """A photograph (size, size + 8, 3) of something redder than what is around it, and where it is."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:size, : size + 8]
    mask = np.hypot(row - rng.uniform(15, 25), column - rng.uniform(18, 30)) < rng.uniform(8, 12)
    photo = np.where(mask[..., None], (190, 90, 80), (150, 130, 120)) + rng.normal(0, 8, (*mask.shape, 3))
    return photo.clip(0, 255).astype(np.uint8), mask


def write_kvasir(raw: Path, names: Iterable[str]) -> Path:
    """``images`` and ``masks`` of the same names, all JPEG."""
    for folder in ("images", "masks"):
        (raw / "Kvasir-SEG" / folder).mkdir(parents=True)
    for seed, name in enumerate(names):
        photo, mask = lesion(seed)
        Image.fromarray(photo).save(raw / "Kvasir-SEG" / "images" / f"{name}.jpg")
        Image.fromarray(np.stack([mask * np.uint8(255)] * 3, -1)).save(raw / "Kvasir-SEG" / "masks" / f"{name}.jpg")
    (raw / "Kvasir-SEG" / "kavsir_bboxes.json").write_text("{}")
    return raw / "Kvasir-SEG"


def write_isic(raw: Path, counts: dict[str, int]) -> Path:
    """A folder of images and one of masks for each part, with what else lies among the images."""
    first = 0
    for part, count in counts.items():
        images, masks = raw / f"ISIC2018_Task1-2_{part}_Input", raw / f"ISIC2018_Task1_{part}_GroundTruth"
        for folder in (images, masks):
            folder.mkdir(parents=True)
            (folder / "ATTRIBUTION.txt").write_text("")
        for seed in range(first, first + count):
            photo, mask = lesion(1000 + seed)
            Image.fromarray(photo).save(images / f"ISIC_{seed:07d}.jpg")
            Image.fromarray(photo).save(images / f"ISIC_{seed:07d}_superpixels.png")
            Image.fromarray(mask * np.uint8(255)).save(masks / f"ISIC_{seed:07d}_segmentation.png")
        first += count
    return raw


def write_nnunet(root: Path, names: str, channel: str = "CT") -> Path:
    """nnU-Net's raw folder with a case for each letter, and ``splits_final.json`` of two folds."""
    for name in names:
        values, label = heart(ord(name))
        for folder, end, array in (("imagesTr", "_0000", values), ("labelsTr", "", label)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            _volume(root / folder / f"{name}{end}.nii.gz", array, (1.5, 1.5, 5.0), "RAS")
    content = {
        "channel_names": {"0": channel},
        "labels": {"background": 0, "RV": 1, "MYO": 2, "LV": 3},
        "numTraining": len(names),
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(content))
    folds = [{"train": [*names[2:]], "val": [*names[:2]]}, {"train": [*names[:-2]], "val": [*names[-2:]]}]
    (root / "splits_final.json").write_text(json.dumps(folds))
    return root


def write_msd(root: Path, names: str, channels: dict[str, str]) -> Path:
    """A task of the Decathlon: all channels of a case in one file, and two images without a label."""
    for folder, cases in (("imagesTr", names), ("imagesTs", "yz")):
        for name in cases:
            (values, label), other = heart(ord(name)), heart(1000 + ord(name))[0]
            planes = [sitk.GetImageFromArray(each) for each in (values, other)[: len(channels)]]
            image = planes[0] if len(planes) == 1 else sitk.JoinSeries(planes)
            image.SetSpacing((1.5, 1.5, 5.0, 1.0)[: image.GetDimension()])
            for kind in (folder, folder.replace("images", "labels")):
                (root / kind).mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(image, str(root / folder / f"heart_{name}.nii.gz"))
            if folder == "imagesTr":
                (root / folder / f"._heart_{name}.nii.gz").write_bytes(b"of macOS")
                _volume(root / "labelsTr" / f"heart_{name}.nii.gz", label, (1.5, 1.5, 5.0))
    files = [(f"./imagesTr/heart_{name}.nii.gz", f"./labelsTr/heart_{name}.nii.gz") for name in names]
    content = {
        "name": "HEART",
        "licence": "CC-BY-SA 4.0",
        "tensorImageSize": "4D",
        "modality": channels,
        "labels": {"0": "background", "1": "RV", "2": "MYO", "3": "LV"},
        "numTraining": len(names),
        "numTest": 2,
        "training": [{"image": image, "label": label} for image, label in files],
        "test": ["./imagesTs/heart_y.nii.gz", "./imagesTs/heart_z.nii.gz"],
    }
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def write_amos(root: Path) -> Path:
    """AMOS22: a training and a validation case with 15 organs, in Hounsfield units."""
    rng = np.random.default_rng(0)
    for part, number in (("Tr", 1), ("Va", 8)):
        label = rng.permutation(np.arange(2 * 32 * 32) % 16).reshape(2, 32, 32).astype(np.uint8)
        for folder, array in (("images", label * np.int16(20) - 100), ("labels", label)):
            (root / f"{folder}{part}").mkdir(parents=True)
            _volume(root / f"{folder}{part}" / f"amos_{number:04d}.nii.gz", array, (0.8, 0.8, 5.0), "RAS")
    return root
