"""Writing DICOM series, as a scanner would."""

from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def write_series(
    image: sitk.Image, folder: Path, slope: float = 1, intercept: float = -1024, shift: float = 0, uid: str = ""
) -> list[Path]:
    """A file a slice, int16 Hounsfield units, named in no order.

    ``shift`` is how far each slice lies from the last along its rows, in mm: a gantry tilt.
    """
    folder.mkdir(parents=True, exist_ok=True)
    values = sitk.GetArrayFromImage(image)
    direction = np.reshape(image.GetDirection(), (3, 3))
    study, series, frame = generate_uid(), uid or generate_uid(), generate_uid()
    paths = []
    for number, plane in enumerate(values):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        found = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        found.SOPClassUID, found.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        found.Modality, found.SeriesDescription = "CT", "axial"
        found.PatientName, found.PatientID, found.PatientBirthDate, found.PatientSex = "Doe^Jane", "17", "", ""
        found.StudyID = found.AccessionNumber = found.ReferringPhysicianName = found.StudyDate = found.StudyTime = ""
        found.StudyInstanceUID, found.SeriesInstanceUID, found.FrameOfReferenceUID = study, series, frame
        found.PositionReferenceIndicator = ""
        found.SeriesNumber, found.InstanceNumber = 1, number + 1
        place = image.TransformIndexToPhysicalPoint((0, 0, number)) + number * shift * direction[:, 0]
        found.ImagePositionPatient = [f"{each:.9g}" for each in place]
        found.ImageOrientationPatient = [f"{each:.9g}" for each in direction[:, :2].T.flatten()]
        found.PixelSpacing = [f"{each:.9g}" for each in image.GetSpacing()[1::-1]]
        found.SliceThickness = image.GetSpacing()[2]
        found.Rows, found.Columns = plane.shape
        found.SamplesPerPixel, found.PhotometricInterpretation = 1, "MONOCHROME2"
        found.BitsAllocated = found.BitsStored = 16
        found.HighBit, found.PixelRepresentation = 15, 1
        found.RescaleSlope, found.RescaleIntercept = slope, intercept
        found.PixelData = np.rint((plane - intercept) / slope).astype("<i2").tobytes()
        paths.append(folder / f"{(number * 7) % len(values):03d}.dcm")
        pydicom.dcmwrite(paths[-1], found, enforce_file_format=True)
    return paths
