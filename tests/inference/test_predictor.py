"""A checkpoint and a file to a mask: on the input's own grid, with nothing in the checkpoint run as code."""

import itertools
from pathlib import Path

import h5py
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from medseg_kd.datasets.intensities import RGB8, Window
from medseg_kd.datasets.manifest import write_manifest
from medseg_kd.datasets.spec import Channel, DataSpec
from medseg_kd.errors import UserError
from medseg_kd.inference import Predictor
from tests.inference.saved import CLASSES, expected, write_checkpoint

CT = DataSpec((Channel("CT", Window(0, 1000)),), CLASSES, orientation="LPS")
ORIENTATIONS = [
    "".join(letters) for axes in itertools.permutations(("LR", "PA", "SI")) for letters in itertools.product(*axes)
]


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    return Predictor.from_checkpoint(write_checkpoint(tmp_path / "iter_1.pth", CT), "cpu")


def scan(seed: int = 0) -> sitk.Image:
    """Values of 0 to 1000 in an oblique volume of (4, 5, 6) voxels in LPS."""
    image = sitk.GetImageFromArray(np.random.default_rng(seed).uniform(0, 1000, (4, 5, 6)).astype(np.float32))
    image.SetSpacing((0.7, 0.8, 3.0))
    image.SetOrigin((-100.0, 20.5, 300.25))
    image.SetDirection(sitk.Euler3DTransform((0, 0, 0), 0.2, -0.1, 0.15).GetMatrix())
    return image


def write(image: sitk.Image, path: Path) -> Path:
    sitk.WriteImage(image, str(path))
    return path


def truth(image: sitk.Image) -> np.ndarray:
    """Labels of a volume that lies in LPS."""
    return expected(sitk.GetArrayFromImage(image) / 1000)


@pytest.mark.parametrize("trained_in", ["LPS", "RAS", "PIR"])
def test_all_48_orientations_are_one_patient(trained_in: str, tmp_path: Path) -> None:
    spec = DataSpec(CT.channels, CLASSES, orientation=trained_in)
    predictor = Predictor.from_checkpoint(write_checkpoint(tmp_path / "iter_1.pth", spec), "cpu")
    lying = sitk.DICOMOrient(scan(), trained_in)
    labels = sitk.GetImageFromArray(truth(lying))
    labels.CopyInformation(lying)
    for orientation in ORIENTATIONS:
        source = write(sitk.DICOMOrient(scan(), orientation), tmp_path / "scan.nii.gz")
        found = predictor(source)
        assert found.image is not None
        np.testing.assert_array_equal(found.labels, sitk.GetArrayFromImage(sitk.DICOMOrient(labels, orientation)))
        np.testing.assert_array_equal(found.labels, sitk.GetArrayFromImage(found.image))
        read = sitk.ReadImage(str(source))
        for name in ("Size", "Spacing", "Origin", "Direction"):
            assert getattr(found.image, f"Get{name}")() == getattr(read, f"Get{name}")()


def test_a_copy_that_lies_otherwise_gets_the_same_voxels_labelled(predictor: Predictor, tmp_path: Path) -> None:
    """Oblique, and with other voxels."""
    for angle, spacing in ((0.0, (1, 1, 1)), (0.4, (0.7, 0.8, 3)), (-0.4, (3, 0.5, 0.5))):
        image = sitk.GetImageFromArray(sitk.GetArrayFromImage(scan()))
        image.SetSpacing(spacing)
        image.SetDirection(sitk.Euler3DTransform((0, 0, 0), angle, angle / 2, -angle).GetMatrix())
        found = predictor(write(image, tmp_path / "scan.nii.gz"))
        np.testing.assert_array_equal(found.labels, truth(scan()))
        assert found.image is not None
        np.testing.assert_allclose(found.image.GetSpacing(), spacing, rtol=1e-6)
        np.testing.assert_allclose(found.image.GetDirection(), image.GetDirection(), atol=1e-6)


@pytest.mark.parametrize("ending", [".mha", ".nrrd", ".nii"])
def test_other_files_of_volumes(ending: str, predictor: Predictor, tmp_path: Path) -> None:
    np.testing.assert_array_equal(predictor(write(scan(), tmp_path / f"scan{ending}")).labels, truth(scan()))


def test_arrays(predictor: Predictor, tmp_path: Path) -> None:
    values = sitk.GetArrayFromImage(scan())
    found = predictor(values, spacing=(3.0, 0.8, 0.7))
    np.testing.assert_array_equal(found.labels, truth(scan()))
    assert found.image is not None and found.image.GetSpacing() == (0.7, 0.8, 3.0)
    np.testing.assert_array_equal(predictor(values[1]).labels, truth(scan())[1])
    assert predictor(values[1]).image is None
    with pytest.raises(UserError, match=r"array of shape \(6,\): expected"):
        predictor(values[1, 1])


def test_several_channels_and_neighbours(tmp_path: Path) -> None:
    """Each voxel is above the threshold by the mean of its channels in its own slice and those beside it."""
    spec = DataSpec((Channel("T1", Window(0, 1000)), Channel("T2", Window(0, 1000))), CLASSES, {}, (), None, "LPS", 1)
    predictor = Predictor.from_checkpoint(write_checkpoint(tmp_path / "iter_1.pth", spec), "cpu")
    files = [write(sitk.DICOMOrient(scan(seed), "RAI"), tmp_path / f"a_000{seed}.nii.gz") for seed in range(2)]
    mean = np.mean([sitk.GetArrayFromImage(scan(seed)) for seed in range(2)], axis=0) / 1000
    around = np.mean([mean[[0, 0, 1, 2]], mean, mean[[1, 2, 3, 3]]], axis=0)
    labels = sitk.GetImageFromArray(expected(around))
    labels.CopyInformation(scan())
    found = predictor(files)
    np.testing.assert_array_equal(found.labels, sitk.GetArrayFromImage(sitk.DICOMOrient(labels, "RAI")))
    with pytest.raises(UserError, match=r"1 channel\(s\), expected 2 \(T1, T2\)"):
        predictor(files[0])
    with pytest.raises(UserError, match="each slice with 1 above and below it: give it the whole volume"):
        predictor(np.full((2, 5, 6), 500, np.float32))
    moved = scan(1)
    moved.SetOrigin((0, 0, 0))
    with pytest.raises(UserError, match="a_0000.nii.gz and moved.nii.gz differ in origin"):
        predictor([files[0], write(moved, tmp_path / "moved.nii.gz")])


def test_prepared_cases(predictor: Predictor, tmp_path: Path) -> None:
    """Values that the rule gave already; an h5 case lies where the file lies that it was made from."""
    values = np.clip(sitk.GetArrayFromImage(scan()) / 1000, 0, 1)
    (tmp_path / "train_npz").mkdir()
    (tmp_path / "test_vol_h5").mkdir()
    np.savez(tmp_path / "train_npz/case1_slice002.npz", image=values[2], label=values[2])
    np.testing.assert_array_equal(predictor(tmp_path / "train_npz/case1_slice002.npz").labels, truth(scan())[2])
    with h5py.File(tmp_path / "test_vol_h5/case1.npy.h5", "w") as file:
        file["image"], file["label"] = values, values
        place = {"origin": scan().GetOrigin(), "direction": scan().GetDirection(), "original_orientation": "RAS"}
        file.attrs.update(place, spacing=(3.0, 0.8, 0.7))
    found = predictor(tmp_path / "test_vol_h5/case1.npy.h5")
    np.testing.assert_array_equal(found.labels, truth(scan()))
    labels = sitk.GetImageFromArray(truth(scan()))
    labels.CopyInformation(scan())
    assert found.image is not None
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(found.image), sitk.GetArrayFromImage(sitk.DICOMOrient(labels, "RAS"))
    )


def test_prepared_cases_need_no_label(tmp_path: Path) -> None:
    """Of a model that takes neighbours too, of which a folder does not tell."""
    values = np.random.default_rng(0).random((4, 6, 5), np.float32)
    (tmp_path / "train_npz").mkdir()
    (tmp_path / "test_vol_h5").mkdir()
    np.savez(tmp_path / "train_npz/a_slice000.npz", image=values[0])
    with h5py.File(tmp_path / "test_vol_h5/a.npy.h5", "w") as file:
        file["image"] = values
    for neighbours, shown in ((0, values), (1, np.mean([values[[0, 0, 1, 2]], values, values[[1, 2, 3, 3]]], axis=0))):
        spec = DataSpec((Channel("CT", Window(0, 1000)),), CLASSES, neighbours=neighbours)
        found = Predictor.from_checkpoint(write_checkpoint(tmp_path / "iter_1.pth", spec), "cpu")
        np.testing.assert_array_equal(found(tmp_path / "test_vol_h5/a.npy.h5").labels, expected(shown))
        if not neighbours:
            np.testing.assert_array_equal(found(tmp_path / "train_npz/a_slice000.npz").labels, expected(values[0]))


def test_prepared_cases_of_other_images_are_refused(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "train_npz").mkdir()
    np.savez(tmp_path / "train_npz/a_slice000.npz", image=np.zeros((4, 4)), label=np.zeros((4, 4)))
    other = DataSpec((Channel("CT", Window(-160, 240)),), ("background", "liver", "lung"), orientation="LPS")
    write_manifest(tmp_path, {"spec": other.to_json()})
    with pytest.raises(
        UserError, match=r"(?s)not the images that .*classes: .*spleen and .*lung.*intensity of channel"
    ):
        predictor(tmp_path / "train_npz/a_slice000.npz")


def test_photographs(tmp_path: Path) -> None:
    spec = DataSpec(tuple(Channel(name, RGB8()) for name in ("red", "green", "blue")), CLASSES)
    predictor = Predictor.from_checkpoint(write_checkpoint(tmp_path / "iter_1.pth", spec), "cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = predictor(tmp_path / "a.png").labels
    np.testing.assert_array_equal(found, expected(pixels.mean(-1) / 255))
    np.testing.assert_array_equal(predictor(np.moveaxis(pixels, -1, 0)).labels, found)


def test_slices_are_resized_as_in_the_test(tmp_path: Path) -> None:
    predictor = Predictor.from_checkpoint(write_checkpoint(tmp_path / "iter_1.pth", CT, size=(10, 12)), "cpu")
    seen = []
    predictor.model.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[-2:]))
    assert predictor(sitk.GetArrayFromImage(scan())).labels.shape == (4, 5, 6)
    assert set(seen) == {(10, 12)}


def test_the_student_of_a_distillation(tmp_path: Path) -> None:
    student = {"type": "Segmentor", "num_classes": 3, "network": {"type": "LeftAndRight", "in_channels": 1}}
    teacher = {"type": "nowhere.Teacher", "cfg_path": "teacher.py"}
    options = {"architecture": student, "teacher": teacher, "type": "SingleTeacherDistill"}
    path = write_checkpoint(tmp_path / "a.pth", CT, **options)
    assert type(Predictor.from_checkpoint(path, "cpu").model.network).__name__ == "LeftAndRight"
    replaced = {"type": "SlicePreprocessor", "size": (8, 16)}  # the student is trained with that of the whole
    path = write_checkpoint(tmp_path / "a.pth", CT, data_preprocessor=replaced, **options)
    assert Predictor.from_checkpoint(path, "cpu").model.data_preprocessor.size == (8, 16)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"type": "os.system", "command": "touch hacked"}, "type 'os.system', which is not registered"),
        ({"network": {"type": "subprocess.run", "args": ["touch", "hacked"]}}, "type 'subprocess.run', which is not"),
        ({"network": {"type": "hacking.UNet"}}, "type 'hacking.UNet', which is not registered"),
        ({"losses": [{"type": "builtins.exec"}], "data_preprocessor": {"type": "builtins.exec"}}, "'builtins.exec'"),
        ({"cfg_path": "hacking.py"}, "names 'hacking.py'; what is not in the checkpoint is neither read nor fetched"),
        ({"network": {"type": "mmseg.TIMMBackbone", "model_name": "hf_hub:a/b"}}, "names 'hf_hub:a/b'"),
    ],
)
def test_no_type_of_a_checkpoint_is_imported(
    model: dict, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "hacking.py").write_text("open('hacked', 'w')\nmodel = dict(type=open)\n")
    with pytest.raises(UserError, match=message):
        Predictor.from_checkpoint(write_checkpoint(tmp_path / "a.pth", CT, **model), "cpu")
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(
    "cfg",
    [
        "model = dict(type=open('hacked', 'w'))",
        "model = __import__('os').system('touch hacked')",
        "model = [open('hacked', 'w') for _ in (1,)]",
        "model = dict(open('hacked', 'w'))",
        "model = dict(**{'type': open('hacked', 'w')})",
        "model = {**dict(type=open('hacked', 'w'))}",
        "model = ",
        "model = " + "(" * 10000,
    ],
)
def test_no_text_of_a_checkpoint_is_run(cfg: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"a\.pth: the config in it is not one of plain values .* and is not run"):
        Predictor.from_checkpoint(write_checkpoint(tmp_path / "a.pth", CT, cfg), "cpu")
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("3", "test_dataloader is 3: expected a dict"),
        ("dict(dataset='a')", "dataset is 'a': expected a dict"),
        ("dict(dataset=dict(format_options=[1]))", r"format_options is \[1\]: expected a dict"),
        ("dict(dataset=dict(size=64))", r"dataset.size is 64: expected \(height, width\)"),
        ("dict(dataset=dict(size=('a', 0)))", r"dataset.size is \('a', 0\): expected"),
    ],
)
def test_odd_kinds_in_the_config_of_a_checkpoint(told: str, message: str, tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "a.pth", CT, cfg=f"model = dict()\ntest_dataloader = {told}\n")
    with pytest.raises(UserError, match=rf"a\.pth: in the config in it {message}"):
        Predictor.from_checkpoint(path, "cpu")


def test_what_a_checkpoint_lacks_is_said(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.pth does not say what its images are"):
        Predictor.from_checkpoint(write_checkpoint(tmp_path / "a.pth", None), "cpu")
    with pytest.raises(UserError, match=r"a\.pth does not say what its model is"):
        Predictor.from_checkpoint(write_checkpoint(tmp_path / "a.pth", CT, "train_cfg = dict()"), "cpu")
    with pytest.raises(UserError, match=r"a\.pth: its model cannot be built .*widht"):
        Predictor.from_checkpoint(write_checkpoint(tmp_path / "a.pth", CT, widht=3), "cpu")
    four = DataSpec(CT.channels, (*CLASSES, "lung"), orientation="LPS")
    with pytest.raises(UserError, match="the model has 3 classes, its data have 4"):
        Predictor.from_checkpoint(write_checkpoint(tmp_path / "a.pth", four), "cpu")
    path = write_checkpoint(tmp_path / "a.pth", DataSpec(CT.channels, CLASSES))
    with pytest.raises(UserError, match="does not tell how the slices lay .* --orientation LPS"):
        Predictor.from_checkpoint(path, "cpu")(write(scan(), tmp_path / "scan.nii.gz"))
    told = Predictor.from_checkpoint(path, "cpu", "LPS")(tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(told.labels, truth(scan()))
    with pytest.raises(UserError, match="orientation 'LPX': expected three directions"):
        Predictor.from_checkpoint(path, "cpu", "LPX")
    with pytest.raises(UserError, match="trained on slices in LPS, not in RAS"):
        Predictor.from_checkpoint(write_checkpoint(tmp_path / "b.pth", CT), "cpu", "RAS")


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_a_device_that_is_not_there(device: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"device '{device}' cannot be used"):
        Predictor.from_checkpoint(write_checkpoint(tmp_path / "a.pth", CT), device)


def test_inputs_that_are_none(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file: .*absent\.nii\.gz"):
        predictor(tmp_path / "absent.nii.gz")
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(UserError, match=r"a\.txt: expected one of \.nii\.gz"):
        predictor(tmp_path / "a.txt")
    (tmp_path / "a.nii.gz").write_text("text")
    with pytest.raises(UserError, match=r"cannot read .*a\.nii\.gz"):
        predictor(tmp_path / "a.nii.gz")
    with pytest.raises(UserError, match="values .* lie outside the window 0 1000"):
        predictor(np.full((2, 3, 4), -1024, np.float32))
