"""DICOM series as volumes: the values and the place of the volume that they were written from, or a reason."""

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.uid import RTStructureSetStorage

from medseg_kd.datasets.dicom import holds_series, read_series
from medseg_kd.errors import UserError
from tests.datasets.dicom_series import write_series


def scan(slices: int = 6) -> sitk.Image:
    """An oblique volume of whole Hounsfield units."""
    values = np.random.default_rng(0).integers(-1024, 1000, (slices, 5, 7)).astype(np.int16)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((0.7, 0.8, 3.0))
    image.SetOrigin((-100.0, 20.5, 300.25))
    image.SetDirection(sitk.Euler3DTransform((0, 0, 0), 0.2, -0.1, 0.15).GetMatrix())
    return image


@pytest.mark.parametrize("slope", [1, 0.5])
def test_it_is_the_volume_that_it_was_written_from(slope: float, tmp_path: Path) -> None:
    files = write_series(scan(), tmp_path, slope)
    found, slices = read_series(tmp_path)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(scan()))
    for name in ("Size", "Spacing", "Origin", "Direction"):
        np.testing.assert_allclose(getattr(found, f"Get{name}")(), getattr(scan(), f"Get{name}")(), atol=1e-6)
    assert slices == files  # in the order of the voxels, not of the names


def test_each_slice_has_its_own_slope(tmp_path: Path) -> None:
    """As in positron emission tomography."""
    files = write_series(scan(), tmp_path)
    edit(files[2], RescaleSlope=0.25, RescaleIntercept=0)
    stored = sitk.GetArrayFromImage(scan())[2] + 1024
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_series(tmp_path)[0])[2], stored * 0.25)


def test_one_of_several_series(tmp_path: Path) -> None:
    write_series(scan(), tmp_path, uid="1.2.3")
    write_series(scan(2), tmp_path / "more", uid="1.2.4")
    for path in (tmp_path / "more").iterdir():
        path.rename(tmp_path / f"b{path.name}")
    with pytest.raises(
        UserError, match=r"(?s)holds 2 series: choose one by --series UID\n  1.2.3: axial, 6 files\n.*2 f"
    ):
        read_series(tmp_path)
    assert read_series(tmp_path, "1.2.4")[0].GetSize() == (7, 5, 2)
    with pytest.raises(UserError, match=r"holds no DICOM series 1\.2\.5\. It holds\n  1\.2\.3: axial"):
        read_series(tmp_path, "1.2.5")


def test_other_things_than_images_are_left_out(tmp_path: Path) -> None:
    files = write_series(scan(), tmp_path)
    shutil.copy(files[0], tmp_path / "plan")
    found = pydicom.dcmread(tmp_path / "plan")
    found.file_meta.MediaStorageSOPClassUID = found.SOPClassUID = RTStructureSetStorage
    found.save_as(tmp_path / "plan")
    (tmp_path / "notes.txt").write_text("none of it")
    (tmp_path / "._000.dcm").write_text("of a file system")
    shutil.copy(files[0], tmp_path / "report")
    edit(tmp_path / "report", SeriesInstanceUID="1.2.5", ImagePositionPatient=None, NumberOfFrames=3)
    assert read_series(tmp_path)[1] == files
    for path in (*files, tmp_path / "report"):
        path.unlink()
    assert not holds_series(tmp_path)
    with pytest.raises(UserError, match="holds no DICOM series"):
        read_series(tmp_path)


def edit(path: Path, **changes: object) -> None:
    """Change elements of a file."""
    found = pydicom.dcmread(path)
    for name, value in changes.items():
        setattr(found, name, value)
    found.save_as(path)


def cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def rename(path: Path, kind: bytes, other: bytes) -> None:
    content = path.read_bytes()
    assert kind in content
    path.write_bytes(content[: (at := content.rindex(kind))] + other + content[at + len(kind) :])


def append(path: Path, content: bytes) -> None:
    path.write_bytes(path.read_bytes() + content)


def nest(path: Path) -> Path:
    """Put a sequence of one element into a file."""
    inner = pydicom.Dataset()
    inner.CodeValue = "1"
    edit(path, ProcedureCodeSequence=[inner])
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(PixelSpacing=None), "does not tell the size of its voxels"),
        (dict(PixelSpacing=[0, 1]), "does not tell the size of its voxels"),
        (dict(RescaleSlope=None), "does not tell what its values are"),
        (dict(RescaleIntercept=None), "does not tell what its values are"),
        (dict(RescaleSlope=0), "does not tell what its values are"),
        (dict(PhotometricInterpretation="MONOCHROME1"), "is MONOCHROME1, expected MONOCHROME2"),
        (dict(PixelRepresentation=None), "does not tell whether pixels have a sign"),
        (dict(BitsStored=12, HighBit=15), "which bits of a pixel are stored"),
        (dict(BitsAllocated=64, BitsStored=64, HighBit=63), "5x7 pixels of 64 bits"),
        (dict(Rows=60000), "tells of 60000x7 of 16 bits, 840000 bytes"),
        (dict(Rows=60000, Columns=60000), "at most 1073741824 are read"),
        (dict(PixelData=b"\0" * 20), "holds 20 bytes of pixels, but tells of 5x7 of 16 bits, 70 bytes"),
        (dict(PixelData=b"\0" * 700), "holds 700 bytes of pixels"),
    ],
)
def test_what_gdcm_would_make_up_is_refused(changes: dict, message: str, tmp_path: Path) -> None:
    """A size of 1 mm, a slope of 1, pixels out of memory that nobody wrote, or values that are turned around."""
    for path in write_series(scan(), tmp_path):
        edit(path, **changes)
    with pytest.raises(UserError, match=message):
        read_series(tmp_path)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda files: files[3].unlink(), "3 mm apart, but 6 mm from .*dcm to .*dcm. Slices are missing"),
        (lambda files: edit(files[5], ImagePositionPatient=[-100, 20, 330]), "slices at uneven distances"),
        (lambda files: edit(files[3], ImagePositionPatient=position(files[2])), "lie at one place: the series holds"),
        (lambda files: edit(files[3], ImageOrientationPatient=[1, 0, 0, 0, 1, 0]), "slices are not parallel"),
        (lambda files: edit(files[3], Rows=7, Columns=5), "slices differ in size or spacing"),
        (lambda files: edit(files[3], PixelSpacing=[0.8, 0.9]), "slices differ in size or spacing"),
        (lambda files: edit(files[3], NumberOfFrames=2), "2 frames of 1 components: expected one grey slice"),
        (lambda files: edit(files[3], ImagePositionPatient=None), "does not tell where its slice lies"),
        (lambda files: edit(files[3], ImageOrientationPatient=[1, 0, 0, 0, 2, 0]), "does not tell where its slice"),
        (lambda files: cut(files[3], 0.97), r"cannot read .*\.dcm"),
        (lambda files: cut(files[3], 0.3), r"cannot read .*\.dcm"),
        (lambda files: cut(files[5], 0.0), r"cannot read .*\.dcm"),
        (
            lambda files: rename(files[2], b"\xe0\x7f\x10\x00OW", b"\xe0\x7f\x10\x00O_"),
            r"is of a kind 'O_'\)\. Copy it",
        ),
        (lambda files: rename(files[2], b"OB\0\0\2\0", b"WI\0\0\2\0"), r"is of a kind 'WI'\)\. Copy it"),
        (lambda files: append(files[2], b"\3:\0P\5\1\0\xc2" + bytes(9)), r"\(3A03,5000\) is longer than the file\)"),
        (lambda files: rename(nest(files[2]), b"\x08\0\0\1SH", b"\x08\0\0\1QX"), r"is of a kind 'QX'\)\. Copy it"),
    ],
    ids=[
        "gap",
        "uneven",
        "twice",
        "turned",
        "size",
        "spacing",
        "frames",
        "nowhere",
        "stretched",
        "cut",
        "header",
        "empty",
        "kind",
        "kind_of_meta",
        "longer_than_the_file",
        "kind_in_sequence",
    ],
)
def test_no_volume_is_refused(harm, message: str, tmp_path: Path) -> None:
    harm(write_series(scan(), tmp_path))
    with pytest.raises(UserError, match=message):
        read_series(tmp_path)


def position(path: Path) -> object:
    return pydicom.dcmread(path).ImagePositionPatient


def test_a_tilted_gantry_is_refused(tmp_path: Path) -> None:
    write_series(scan(), tmp_path, shift=0.5)
    with pytest.raises(
        UserError, match=r"shifted by 2\.5 mm from the first to the last \(gantry tilt of 9\.46 degrees\)"
    ):
        read_series(tmp_path)
