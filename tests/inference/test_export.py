"""Masks of many files."""

import errno
import json
import os
import sys
from pathlib import Path

import h5py
import highdicom
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from medseg_kd.cli.predict import main
from medseg_kd.datasets.intensities import RGB8, Stored, Window
from medseg_kd.datasets.spec import Channel, DataSpec
from medseg_kd.errors import FailedRunError, UserError, WriteError
from medseg_kd.inference import Predictor
from medseg_kd.inference.export import predict_files
from tests.datasets.dicom_series import write_series
from tests.inference.saved import CLASSES, expected, write_checkpoint


def predictor(folder: Path, *rules: object) -> Predictor:
    channels = tuple(Channel(f"channel {index}", rule) for index, rule in enumerate(rules))
    spec = DataSpec(channels, CLASSES, orientation="LPS")
    return Predictor.from_checkpoint(write_checkpoint(folder / "iter_1.pth", spec), "cpu")


def volume(path: Path, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).random((3, 4, 5), np.float32)
    path.parent.mkdir(exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(path))
    return values


def read(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def test_a_folder_and_files_and_a_bad_one(tmp_path: Path) -> None:
    values = {name: volume(tmp_path / "in" / f"{name}.nii.gz", seed) for seed, name in enumerate(("a", "b", "c"))}
    (tmp_path / "in/b.nii.gz").write_bytes((tmp_path / "in/b.nii.gz").read_bytes()[:100])
    (tmp_path / "in/notes.txt").write_text("no image")
    extra = volume(tmp_path / "extra.mha", 3)
    out = tmp_path / "out"
    failed = predict_files(predictor(tmp_path, Stored()), [tmp_path / "in", tmp_path / "extra.mha"], out)
    assert list(failed) == [str(tmp_path / "in/b.nii.gz")]
    assert "b.nii.gz" in failed[str(tmp_path / "in/b.nii.gz")]
    assert sorted(path.name for path in out.iterdir()) == [
        "a.nii.gz",
        "c.nii.gz",
        "extra.nii.gz",
        "labels.ctbl",
        "labels.json",
        "labels.txt",
    ]
    for name, image in (("a", values["a"]), ("c", values["c"]), ("extra", extra)):
        np.testing.assert_array_equal(read(out / f"{name}.nii.gz"), expected(image))
    assert json.loads((out / "labels.json").read_text()) == {"labels": {"background": 0, "liver": 1, "spleen": 2}}


def test_nothing_is_written_over(tmp_path: Path) -> None:
    volume(tmp_path / "in/a.nii.gz", 0)
    volume(tmp_path / "in/a.mha", 1)
    before = (tmp_path / "in/a.nii.gz").read_bytes()
    failed = predict_files(predictor(tmp_path, Stored()), [tmp_path / "in"], tmp_path / "in")
    assert len(failed) == 2 and all("choose another --out" in reason for reason in failed.values())
    assert (tmp_path / "in/a.nii.gz").read_bytes() == before
    failed = predict_files(predictor(tmp_path, Stored()), [tmp_path / "in"], tmp_path / "out")
    (reason,) = failed.values()
    assert "is already that of" in reason


def test_channels_are_files(tmp_path: Path) -> None:
    values = [volume(tmp_path / "in" / f"b_000{channel}.nii.gz", channel) for channel in range(2)]
    volume(tmp_path / "in/c_0000.nii.gz", 2)
    volume(tmp_path / "in/d_0000.nii.gz", 3)
    volume(tmp_path / "in/d_0002.nii.gz", 4)
    failed = predict_files(predictor(tmp_path, Stored(), Stored()), [tmp_path / "in"], tmp_path / "out")
    assert [Path(name).name for name in failed] == ["c_0000.nii.gz", "d_0000.nii.gz"]
    reasons = list(failed.values())
    assert "expected 2 (channel 0, channel 1)" in reasons[0] and "channels 0000, 0002: expected 0000" in reasons[1]
    np.testing.assert_array_equal(read(tmp_path / "out/b.nii.gz"), expected(np.mean(values, axis=0)))


def test_images(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 9), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.bmp")
    assert not predict_files(predictor(tmp_path, RGB8()), [tmp_path / "a.bmp"], tmp_path / "out")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out/a.png")), expected(pixels / 255))


def test_whatever_a_network_raises_does_not_stop_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        volume(tmp_path / "in" / f"{name}.nii.gz", 0)
    found = predictor(tmp_path, Stored())
    forward, calls = found.model.network.forward, []

    def once(x):
        calls.append(x)
        if len(calls) == 1:
            raise RuntimeError("kernel larger than the input\nand more")
        return forward(x)

    monkeypatch.setattr(found.model.network, "forward", once)
    failed = predict_files(found, [tmp_path / "in"], tmp_path / "out")
    assert failed == {str(tmp_path / "in/a.nii.gz"): "RuntimeError: kernel larger than the input"}
    assert (tmp_path / "out/b.nii.gz").is_file()


def test_mistakes(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="nothing to predict in .*empty"):
        predict_files(predictor(tmp_path, Stored()), [tmp_path / "empty"], tmp_path / "out")
    volume(tmp_path / "in/a.nii.gz", 0)
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match="cannot write .*out.*: .*another place"):
        predict_files(predictor(tmp_path, Stored()), [tmp_path / "in"], tmp_path / "out")


def hounsfield(seed: int = 0) -> sitk.Image:
    """An oblique volume of whole numbers from 0 to 1000, in LPS."""
    image = sitk.GetImageFromArray(np.random.default_rng(seed).integers(0, 1000, (4, 5, 6)).astype(np.int16))
    image.SetSpacing((0.7, 0.8, 3.0))
    image.SetOrigin((-100.0, 20.5, 300.25))
    image.SetDirection(sitk.Euler3DTransform((0, 0, 0), 0.2, -0.1, 0.15).GetMatrix())
    return image


def test_a_series_gives_what_its_volume_gives(tmp_path: Path) -> None:
    """As NIfTI and as a DICOM segmentation, whichever way its slices lie."""
    found = predictor(tmp_path, Window(0, 1000))
    for orientation in ("LPS", "PSL", "LAI"):
        image = sitk.DICOMOrient(hounsfield(), orientation)
        files = write_series(image, tmp_path / orientation / "series")
        sitk.WriteImage(image, str(tmp_path / orientation / "volume.nii.gz"))
        out = tmp_path / orientation / "out"
        assert not predict_files(found, [tmp_path / orientation], out, dicom_seg=True)
        labels = read(out / "series.nii.gz")
        assert set(np.unique(labels)) == {0, 1, 2}
        np.testing.assert_array_equal(labels, read(out / "volume.nii.gz"))
        mask = sitk.ReadImage(str(out / "series.nii.gz"))
        for name in ("Size", "Spacing", "Origin", "Direction"):
            np.testing.assert_allclose(getattr(mask, f"Get{name}")(), getattr(image, f"Get{name}")(), atol=1e-4)
        assert not (out / "volume.dcm").exists()
        segments = highdicom.seg.segread(out / "series.dcm")
        assert segments.PatientID == "17" and segments.get_segment_description(2).segment_label == "spleen"
        volume = segments.get_volume(combine_segments=True)
        for (z, y, x), label in np.ndenumerate(volume.array):
            place = volume.affine @ (z, y, x, 1)  # in LPS, as SimpleITK's
            assert label == mask.GetPixel(mask.TransformPhysicalPointToIndex(place[:3].tolist()))
        assert {each.ReferencedSOPInstanceUID for each in references(segments)} == {uid(file) for file in files}


def references(segments: highdicom.seg.Segmentation) -> list:
    return list(segments.ReferencedSeriesSequence[0].ReferencedInstanceSequence)


def uid(file: Path) -> str:
    return highdicom.imread(file).SOPInstanceUID


def test_what_is_no_series(tmp_path: Path) -> None:
    found = predictor(tmp_path, Window(0, 1000))
    sitk.WriteImage(hounsfield(), str(tmp_path / "a.nii.gz"))
    with pytest.raises(UserError, match="--dicom-seg: none of the inputs is the folder of a DICOM series"):
        predict_files(found, [tmp_path / "a.nii.gz"], tmp_path / "out", dicom_seg=True)
    with pytest.raises(UserError, match="--series: none of the inputs is the folder of a DICOM series"):
        predict_files(found, [tmp_path / "a.nii.gz"], tmp_path / "out", series="1.2.3")
    (tmp_path / "empty").mkdir()
    failed = predict_files(found, [tmp_path / "a.nii.gz", tmp_path / "empty"], tmp_path / "out")
    assert list(failed) == [str(tmp_path / "empty")] and "holds no DICOM series" in failed[str(tmp_path / "empty")]


def test_packages_that_are_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(hounsfield(), tmp_path / "series")
    for name in ("highdicom", "rankseg"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match="pip install highdicom"):
        predict_files(predictor(tmp_path, Window(0, 1000)), [tmp_path / "series"], tmp_path / "out", dicom_seg=True)
    with pytest.raises(UserError, match="pip install rankseg"):
        Predictor.from_checkpoint(tmp_path / "iter_1.pth", "cpu", decoding="rankseg")


@pytest.mark.parametrize("size", [None, (8, 12)])
def test_probabilities_lie_on_the_input(size: tuple[int, int] | None, tmp_path: Path) -> None:
    """The most probable class of each voxel is that of the mask, however the volume lies."""
    spec = DataSpec((Channel("CT", Window(0, 1000)),), CLASSES, orientation="RAS")
    found = Predictor.from_checkpoint(write_checkpoint(tmp_path / "iter_1.pth", spec, size=size), "cpu")
    (tmp_path / "in").mkdir()
    for orientation in ("LPS", "SAR", "PIL", "RAS"):
        sitk.WriteImage(sitk.DICOMOrient(hounsfield(), orientation), str(tmp_path / "in" / f"{orientation}.nii.gz"))
    np.savez(tmp_path / "in/slice.npz", image=np.random.default_rng(0).random((4, 6)))
    with h5py.File(tmp_path / "in/case.h5", "w") as file:
        file["image"] = np.random.default_rng(0).random((3, 4, 6))
        file["label"] = np.zeros((3, 4, 6))
    out = tmp_path / "out"
    assert not predict_files(found, [tmp_path / "in"], out, probabilities=True)
    for path in (tmp_path / "in").iterdir():
        name = path.name.partition(".")[0]
        with np.load(out / f"{name}.npz") as stored:
            probabilities, names = stored["probabilities"], stored["names"].tolist()
        assert probabilities.dtype == np.float16 and names == list(CLASSES)
        mask = np.asarray(Image.open(out / "slice.png")) if name == "slice" else read(out / f"{name}.nii.gz")
        np.testing.assert_array_equal(probabilities.argmax(0), mask)
        np.testing.assert_allclose(probabilities.sum(0, dtype=np.float32), 1, atol=2e-3)
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("full", ["probabilities", "mask", "mask, silently"])
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str) -> None:
    """It stops with one message; what was written before stays."""
    for name in ("a", "b", "c"):
        volume(tmp_path / "in" / f"{name}.nii.gz", 0)
    found, out = predictor(tmp_path, Stored()), tmp_path / "out"
    write_image = sitk.WriteImage

    def allocate(*arguments: object) -> None:
        if (out / "a.nii.gz").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write(image: sitk.Image, path: str, **options: bool) -> None:
        write_image(image, path, **options)
        if (out / "a.nii.gz").exists():
            Path(path).write_bytes(Path(path).read_bytes()[:-30])
            if full == "mask":
                raise RuntimeError("failed to write to file")

    if full == "probabilities":
        monkeypatch.setattr(os, "posix_fallocate", allocate, raising=False)
    else:
        monkeypatch.setattr(sitk, "WriteImage", write)
    with pytest.raises(WriteError, match=r"cannot write .*b\.n.*Free some disk space") as stopped:
        predict_files(found, [tmp_path / "in"], out, probabilities=True)
    assert stopped.value.exit_code == 1
    assert {"a.nii.gz", "a.npz"} <= {path.name for path in out.iterdir()} <= {"a.nii.gz", "a.npz", "b.npz"}


def test_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "c"):
        volume(tmp_path / "in" / f"{name}.nii.gz", 0)
    Path("some.txt").write_text("\ufeff# of today\nin/a.nii.gz\n\nin/c.nii.gz\nin/gone.nii.gz\n", "utf-8")
    for number, given in enumerate(("some.txt", "@some.txt")):
        failed = predict_files(predictor(tmp_path, Stored()), [given], Path(f"out{number}"))
        assert failed == {"in/gone.nii.gz": "no such file: in/gone.nii.gz"}
        assert {path.name for path in Path(f"out{number}").glob("*.nii.gz")} == {"a.nii.gz", "c.nii.gz"}
    out = tmp_path / "out1"
    Path("some.txt").rename(out / "labels.txt")
    with pytest.raises(UserError, match="labels.txt is an input, and would be written over"):
        predict_files(predictor(tmp_path, Stored()), [out / "labels.txt"], out)
    with pytest.raises(UserError, match="none is no file: expected a text"):
        predict_files(predictor(tmp_path, Stored()), ["@none"], tmp_path / "out")


def test_a_folder_of_thirty_inputs_three_of_them_broken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predictor(tmp_path, Window(0, 1000))
    folder = tmp_path / "in"
    for number, ending in enumerate([".nii.gz"] * 8 + [".nii"] * 5 + [".mha"] * 5 + [".nrrd"] * 5):
        image = sitk.DICOMOrient(hounsfield(number), ("LPS", "RAS", "SPL")[number % 3])
        folder.mkdir(exist_ok=True)
        sitk.WriteImage(image, str(folder / f"volume{number:02d}{ending}"), useCompression=ending == ".nii.gz")
    for number in range(3):
        write_series(hounsfield(number), folder / f"series{number}")
        np.savez(folder / f"slice{number}.npz", image=np.random.default_rng(number).random((4, 6)))
    with h5py.File(folder / "case.h5", "w") as file:
        file["image"] = np.random.default_rng(0).random((3, 4, 6))
    assert len(list(folder.iterdir())) == 30
    broken = [folder / "volume03.nii.gz", folder / "slice1.npz", folder / "series2"]
    for path in broken[:2]:
        path.write_bytes(path.read_bytes()[:150])
    next(path for path in sorted(broken[2].iterdir()) if path.name == "003.dcm").unlink()
    with pytest.raises(FailedRunError, match=r"3 input\(s\) could not be predicted") as stopped:
        main([str(tmp_path / "iter_1.pth"), str(folder), "--out", str(tmp_path / "out"), "--device", "cpu"])
    assert stopped.value.exit_code == 1
    lines = capsys.readouterr().err.splitlines()
    failed = {line: lines[number + 1] for number, line in enumerate(lines) if line.startswith("not predicted: ")}
    assert sorted(failed) == sorted(f"not predicted: {path}" for path in broken)
    assert all(len(reason) > 20 for reason in failed.values())
    assert len([path for path in (tmp_path / "out").iterdir() if path.suffix in (".gz", ".png")]) == 27
