"""A small data folder for each kind of file that is read, and how it is read: what is damaged to try the readers."""

import json
import random
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813
from PIL import Image
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from medseg_kd.datasets.conversion import SYNAPSE_CLASSES, load_label_map
from medseg_kd.datasets.dicom import read_series
from medseg_kd.datasets.formats import open_folder
from medseg_kd.datasets.spec import Channel, DataSpec

_IMAGE = np.random.default_rng(0).random((3, 8, 8)).astype(np.float32)
_LABEL = (_IMAGE > 0.5).astype(np.uint8)
_SPEC = dict(channels={"CT": "Percentiles"}, classes=("background", "organ"))
_PLACE = dict(spacing=(3.0, 1.0, 1.0), origin=np.zeros(3), direction=np.eye(3).ravel(), original_orientation="RAS")


class Sample(NamedTuple):
    """A data folder, the split and the format that it is read as, and the one file of it that is damaged."""

    file: str
    format: str
    split: str = "train"


SAMPLES = {
    "npz": Sample("train_npz/a_slice000.npz", "transunet"),
    "h5": Sample("test_vol_h5/packed.npy.h5", "transunet", "test"),
    "h5-plain": Sample("test_vol_h5/plain.npy.h5", "transunet", "test"),
    "list": Sample("lists/lists_Synapse/train.txt", "transunet"),
    "manifest": Sample("manifest.json", "transunet"),
    **{kind: Sample(f"img_dir/train/a.{kind}", "images") for kind in ("png", "jpg", "bmp", "tif")},
    "label": Sample("ann_dir/train/a.png", "images"),
    "nifti": Sample("images/a.nii", "nifti"),
    "nifti-packed": Sample("images/a.nii.gz", "nifti"),
    "mha": Sample("imagesTr/a_0000.mha", "nnunet"),
    "nrrd": Sample("imagesTr/a_0000.nrrd", "nnunet"),
    "dicom": Sample("a.dcm", "dicom"),
    "dataset": Sample("dataset.json", "nnunet"),
    "folds": Sample("splits_final.json", "nnunet"),
    "label-map": Sample("map.json", "label map"),
}


def write_sample(sample: Sample, root: Path) -> bytes:
    """Write a data folder; what the file holds that is to be damaged."""
    path, ending = root / sample.file, "".join(Path(sample.file).suffixes)
    path.parent.mkdir(parents=True, exist_ok=True)
    if sample.format == "transunet":
        _write_transunet(root, sample, path)
    elif sample.format == "images":
        for folder, pixels in (("img_dir", (_IMAGE[0] * 255).astype(np.uint8)), ("ann_dir", _LABEL[0])):
            (root / folder / "train").mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / folder / "train" / ("a.png" if folder == "ann_dir" else path.name))
    elif sample.format == "nifti":
        _write_volume(path, _IMAGE)
        _write_volume(root / "labels" / path.name, _LABEL)
    elif sample.format == "nnunet":
        ending = ending if sample.file.startswith("imagesTr") else ".nii.gz"
        for case in "ab":
            _write_volume(root / "imagesTr" / f"{case}_0000{ending}", _IMAGE)
            _write_volume(root / "labelsTr" / f"{case}{ending}", _LABEL)
        told = dict(channel_names={"0": "MR"}, labels=dict(background=0, organ=1), numTraining=2, file_ending=ending)
        (root / "dataset.json").write_text(json.dumps(told))
        (root / "splits_final.json").write_text('[{"train": ["a"], "val": ["b"]}]')
    elif sample.format == "dicom":
        for place, name in enumerate("ab"):
            _write_dicom(root / f"{name}.dcm", place)
    else:
        path.write_text('{"1": 7, "2": 4, "*": 0}')
    return path.read_bytes()


def read_sample(sample: Sample, root: Path) -> None:
    """Read all cases of a data folder."""
    if sample.format == "dicom":
        read_series(root)
        return
    if sample.format == "label map":
        load_label_map(str(root / sample.file))
        return
    told = sample.format == "nnunet" or sample.file == "manifest.json"
    found = open_folder(root, sample.split, sample.format, {} if told else _SPEC)
    for case in found.find(sample.split):
        found.read_case(case)


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Content with some bytes changed, numbers in it replaced by large ones, parts cut out or put in."""
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        place, kind, width = rng.randrange(len(damaged)), rng.random(), rng.choice((1, 2, 4, 8))
        if kind < 0.4:
            damaged[place] = rng.choice((rng.randrange(256), damaged[place] ^ 1 << rng.randrange(8), 0, 255))
        elif kind < 0.7:
            number = rng.choice((0, 2 ** (8 * width) - 1, 2 ** (8 * width - 1), 2**31 - 1, len(content)))
            damaged[place : place + width] = (number % 2 ** (8 * width)).to_bytes(width, rng.choice(("little", "big")))
        elif kind < 0.85:
            del damaged[place : place + rng.choice((1, 8, 64, 4096))]
        else:
            damaged[place:place] = rng.choice((rng.randbytes(width), bytes(damaged[place : place + 64]), b"[" * 999))
        if not damaged:
            break
    return bytes(damaged) or b"\0"


def _write_transunet(root: Path, sample: Sample, path: Path) -> None:
    (root / "train_npz").mkdir(exist_ok=True)
    np.savez_compressed(root / "train_npz/a_slice000.npz", image=_IMAGE[0], label=_LABEL[0], spacing=np.ones(3))
    if sample.split == "test":
        packed = dict(chunks=(1, 8, 8), compression="gzip", shuffle=True) if "packed" in path.name else {}
        with h5py.File(path, "w") as file:
            file.create_dataset("image", data=_IMAGE, **packed)
            file.create_dataset("label", data=_LABEL.astype(np.float32), **packed)
            file.attrs.update(_PLACE)
    elif path.suffix == ".txt":
        path.write_text("a_slice000\n")
    elif path.suffix == ".json":
        spec = DataSpec((Channel("CT"),), SYNAPSE_CLASSES).to_json()
        case = dict(slices=1, shape=[1, 8, 8], voxels={"aorta": 1}, files=["train_npz/a_slice000.npz"])
        path.write_text(json.dumps(dict(classes=SYNAPSE_CLASSES, spec=spec, splits={"train": {"a": case}})))


def _write_volume(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path), useCompression=True)


def _write_dicom(path: Path, place: int) -> None:
    """A slice of a CT."""
    told = pydicom.Dataset()
    told.SOPClassUID, told.SOPInstanceUID, told.SeriesInstanceUID = CTImageStorage, f"1.2.{place}", "1.2.3"
    told.ImagePositionPatient, told.ImageOrientationPatient = [0, 0, place], [1, 0, 0, 0, 1, 0]
    told.PixelSpacing, (told.Rows, told.Columns) = [1, 1], _IMAGE[0].shape
    told.SamplesPerPixel, told.PhotometricInterpretation, told.PixelRepresentation = 1, "MONOCHROME2", 1
    told.BitsAllocated = told.BitsStored = 16
    told.HighBit, told.RescaleSlope, told.RescaleIntercept = 15, 1, -1024
    told.PixelData = (_IMAGE[place] * 1000).astype("<i2").tobytes()
    told.file_meta = pydicom.dataset.FileMetaDataset()
    told.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    pydicom.dcmwrite(path, told, enforce_file_format=True)
