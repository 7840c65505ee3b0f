"""Probabilities of cases in files, as nnU-Net and our own predict.py write them."""

import pickle
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from volume_files import write_volume

CLASSES = ("background", "PZ", "TZ")


def softened(label: np.ndarray, classes: int, seed: int = 0, sharpness: float = 3.0) -> np.ndarray:
    """(K, ...) float32 probabilities whose largest is the label."""
    z = np.random.default_rng(seed).normal(size=(classes, *label.shape)).clip(-1, 1)
    z += sharpness * (np.arange(classes).reshape(-1, *[1] * label.ndim) == label)
    e = np.exp(z)
    return (e / e.sum(0)).astype(np.float32)


def write_nnunet(folder: Path, case: str, image: Path, soft: np.ndarray, reader: str = "sitk") -> Path:
    """Writes ``<case>.npz`` and ``.pkl`` of an image: (K, z, y, x) in LPS, laid as nnU-Net's reader reads the image.

    The properties are those of nnunetv2 2.2 to 2.8: its readers' and what its preprocessor adds.
    """
    read = sitk.ReadImage(str(image))
    letters = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(read.GetDirection())
    lps = sitk.DICOMOrient(read, "LPS")
    planes = []
    for plane in soft:
        each = sitk.GetImageFromArray(plane)
        each.CopyInformation(lps)
        planes.append(sitk.GetArrayFromImage(sitk.DICOMOrient(each, "RAS" if reader == "reorient" else letters)))
    spacing = list(np.abs(read.GetSpacing()[::-1]))  # NumPy's scalars, as there
    if reader == "sitk":
        stuff = {"spacing": read.GetSpacing(), "origin": read.GetOrigin(), "direction": read.GetDirection()}
        properties = {"sitk_stuff": stuff, "spacing": spacing}
    else:
        stuff = {"original_affine": affine(read)}
        if reader == "reorient":
            stuff["reoriented_affine"] = affine(sitk.DICOMOrient(read, "RAS"))
        properties = {"nibabel_stuff": stuff, "spacing": spacing}
    shape = planes[0].shape
    properties |= {"shape_before_cropping": shape, "bbox_used_for_cropping": [[0, np.int64(side)] for side in shape]}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / f"{case}.npz", probabilities=np.stack(planes))
    (folder / f"{case}.pkl").write_bytes(pickle.dumps(properties))
    return folder / f"{case}.npz"


def affine(image: sitk.Image) -> np.ndarray:
    """The affine that nibabel gives: from voxels to RAS."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    return np.diag((-1, -1, 1, 1)) @ matrix


def volumes(root: Path, names: str = "abcdef", orientation: str = "RAS") -> dict[str, np.ndarray]:
    """A raw nnU-Net folder of one MR channel; the labels (z, y, x) in LPS, which have no symmetry."""
    labels = {}
    (root / "imagesTr").mkdir(parents=True)
    (root / "dataset.json").write_text(
        '{"channel_names": {"0": "T2"}, "labels": {"background": 0, "PZ": 1, "TZ": 2}, "file_ending": ".nii.gz"}'
    )
    for name in names:
        rng = np.random.default_rng(ord(name))
        label = np.zeros((4, 12, 10), np.uint8)
        label[:2, 1:7, 1:4] = 1
        label[1:3, 6:9, 3:9] = 2
        image = rng.normal(size=label.shape) + label
        write_volume(root / "imagesTr" / f"{name}_0000.nii.gz", image.astype(np.float32), orientation=orientation)
        write_volume(root / "labelsTr" / f"{name}.nii.gz", label, orientation=orientation)
        labels[name] = label
    return labels
