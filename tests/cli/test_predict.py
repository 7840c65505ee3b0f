"""tools/predict.py: a trained checkpoint alone gives what test.py gives, of prepared cases and of raw volumes."""

import json

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch

from medseg_kd.cli.predict import main
from medseg_kd.datasets.phantom import SYNAPSE_CLASSES
from medseg_kd.datasets.spec import Channel, DataSpec
from medseg_kd.errors import UserError
from medseg_kd.registry import MODELS
from tests.cli.commands import ROOT, SHORT, fail, succeed


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A run of CT that was prepared from raw volumes in two orientations, tested with its predictions saved."""
    home = tmp_path_factory.mktemp("home")
    rng = np.random.default_rng(0)
    for split, orientation in (("train", "LPS"), ("test", "SAR")):
        for folder in ("images", "labels"):
            (home / split / folder).mkdir(parents=True)
            values = rng.integers(0, 9, (3, 40, 48)).astype(np.int16)
            image = sitk.GetImageFromArray(values * 60 - 300 if folder == "images" else values)
            image.SetSpacing((0.7, 0.8, 3.0))
            image.SetOrigin((-100.0, 20.5, 300.25))
            image = sitk.DICOMOrient(image, orientation)
            sitk.WriteImage(image, str(home / split / folder / f"{split}_1.nii.gz"))
        pair = ("--images", f"{split}/images", "--labels", f"{split}/labels")
        names = ("--classes", *SYNAPSE_CLASSES[1:]) if split == "train" else ()
        options = ("--out", "data", "--split", split, "--window", "-160", "240", *names)
        succeed("tools/prepare_slices.py", *pair, *options, cwd=home)
    config = ROOT / "configs/demo/unet_r18_half_phantom.py"
    options = ("--data-root", "data", "--work-dir", "run", "--cfg-options", *SHORT, "train_cfg.max_iters=2")
    succeed("train.py", config, *options, cwd=home)
    succeed("test.py", config, "--save-predictions", *options, cwd=home)
    return home


def test_it_predicts_what_test_py_saves(home, capsys, monkeypatch):
    monkeypatch.chdir(home)
    (home / "bad.nii.gz").write_text("no volume")
    (prepared,) = (home / "data/test_vol_h5").glob("*.h5")
    (saved,) = (home / "run/test/predictions").iterdir()
    raw = home / "test/images/test_1.nii.gz"
    expected = sitk.ReadImage(str(saved))
    assert len(np.unique(sitk.GetArrayFromImage(expected))) > 1
    for number, source in enumerate((prepared, raw)):
        out = f"masks{number}"
        with pytest.raises(SystemExit) as stopped:
            main(["run", "bad.nii.gz", str(source), "--out", out])
        assert stopped.value.code == 1
        said = capsys.readouterr().err
        assert "not predicted: bad.nii.gz\n  " in said and said.count("not predicted") == 1
        assert len(json.loads((home / out / "labels.json").read_text())["labels"]) == 9
        (mask,) = (home / out).glob("*.nii.gz")
        found = sitk.ReadImage(str(mask))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(expected))
        for name in ("Spacing", "Origin", "Direction"):
            here, there = (getattr(image, f"Get{name}")() for image in (found, sitk.ReadImage(str(raw))))
            np.testing.assert_allclose(here, there, rtol=1e-5, atol=1e-5)


def test_mistakes_get_one_message(home):
    assert "missing is not there" in fail("tools/predict.py", "missing", "a.nii.gz", "--out", "masks", cwd=home)
    with pytest.raises(UserError, match="trained on slices in LPS, not in RAS"):
        main([str(home / "run"), "test", "--out", "masks", "--orientation", "RAS"])


def test_a_network_of_monai(tmp_path):
    """In a process that has built none of them yet."""
    network = {"type": "monai.BasicUNet", "features": (4, 4, 4, 4, 4, 4)}
    model = {"type": "medseg_kd.models.Segmentor", "num_classes": 9, "network": network}
    spec = DataSpec((Channel("CT"),), SYNAPSE_CLASSES).to_json()
    weights = MODELS.build(model).state_dict()
    torch.save({"meta": {"cfg": f"model = {model!r}", "spec": spec}, "state_dict": weights}, tmp_path / "iter_1.pth")
    np.savez(tmp_path / "a.npz", image=np.zeros((32, 32), np.float32))
    succeed("tools/predict.py", "iter_1.pth", "a.npz", "--out", "masks", cwd=tmp_path)
    assert (tmp_path / "masks/a.png").is_file()
