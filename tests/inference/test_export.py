"""Masks of many files."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from medseg_kd.datasets.intensities import RGB8, Stored
from medseg_kd.datasets.spec import Channel, DataSpec
from medseg_kd.errors import UserError
from medseg_kd.inference import Predictor
from medseg_kd.inference.export import predict_files
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
    with pytest.raises(UserError, match="cannot write into .*out: .*another folder"):
        predict_files(predictor(tmp_path, Stored()), [tmp_path / "in"], tmp_path / "out")
