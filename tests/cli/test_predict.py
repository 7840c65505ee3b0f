"""tools/predict.py: a trained checkpoint alone gives what test.py gives, of prepared cases and of raw volumes."""

import json

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from PIL import Image

from medseg_kd.cli.predict import main
from medseg_kd.configuration import load_run
from medseg_kd.datasets.phantom import SYNAPSE_CLASSES
from medseg_kd.datasets.spec import Channel, DataSpec
from medseg_kd.errors import FailedRunError, UserError
from medseg_kd.evaluation import score_case
from medseg_kd.evaluation.label_tables import colour
from medseg_kd.registry import MODELS
from tests.cli.commands import ROOT, SHORT, fail, succeed
from tests.datasets.dicom_series import write_series

CONFIG = ROOT / "configs/demo/unet_r18_half_phantom.py"


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
    options = ("--data-root", "data", "--work-dir", "run", "--cfg-options", *SHORT, "train_cfg.max_iters=2")
    succeed("train.py", CONFIG, *options, cwd=home)
    succeed("test.py", CONFIG, "--save-predictions", *options, cwd=home)
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
        with pytest.raises(FailedRunError) as stopped:
            main(["run", "bad.nii.gz", str(source), "--out", out])
        assert stopped.value.exit_code == 1
        said = capsys.readouterr().err
        assert "not predicted: bad.nii.gz\n  " in said and said.count("not predicted") == 1
        assert len(json.loads((home / out / "labels.json").read_text())["labels"]) == 9
        (mask,) = (home / out).glob("*.nii.gz")
        found = sitk.ReadImage(str(mask))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(expected))
        for name in ("Spacing", "Origin", "Direction"):
            here, there = (getattr(image, f"Get{name}")() for image in (found, sitk.ReadImage(str(raw))))
            np.testing.assert_allclose(here, there, rtol=1e-5, atol=1e-5)


def test_a_series_scores_as_the_test_does(home, monkeypatch):
    monkeypatch.chdir(home)
    write_series(sitk.DICOMOrient(sitk.ReadImage("test/images/test_1.nii.gz"), "LPS"), home / "series")
    main(["run", "series", "--out", "of_series", "--probabilities", "--dicom-seg"])
    assert {path.suffix for path in (home / "of_series").glob("series.*")} == {".gz", ".npz", ".dcm"}
    found, truth = (
        sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(path), "LPS"))
        for path in ("of_series/series.nii.gz", "test/labels/test_1.nii.gz")
    )
    scores = score_case(found, truth, 9, protocol="strict")
    told = json.loads((home / "run/test/metrics.json").read_text())["strict"]["per_class"]
    for value, name in enumerate(SYNAPSE_CLASSES[1:], start=1):
        assert scores[value]["dice"] * 100 == pytest.approx(told[name]["Dice"], abs=1e-4)


def test_the_test_draws_and_writes_and_turns(home):
    """``test.py`` with all that it can be asked for beside its scores."""
    cfg = load_run(CONFIG, {"test_dataloader.num_workers": 0}, "data", "run")
    cfg.model.data_preprocessor.augmentation = dict(type="RandomRotateFlip")
    (home / "turning.py").write_text(cfg.pretty_text)
    asked = ("--tta", "--decode", "rankseg", "--show-dir", "shown")
    said = succeed("test.py", "turning.py", "run", "--work-dir", "other", "--out", "scores.json", *asked, cwd=home)
    assert "mDice" in said
    assert (home / "scores.json").read_text() == (home / "other/test/metrics.json").read_text()
    drawn = sorted(path.name for path in (home / "shown").iterdir())
    assert drawn == [f"test_1_slice00{number}.png" for number in range(3)]
    with Image.open(home / "shown" / drawn[0]) as image:
        assert image.size == (2 * 48 * 10, 40 * 10)  # truth beside prediction, enlarged
        colours = {found for _, found in image.getcolors(1 << 16)}
    assert {colour(1), colour(8)} <= colours
    succeed("test.py", "turning.py", "run", "--work-dir", "other", "--out", "predictions", cwd=home)
    assert [path.name for path in (home / "predictions").iterdir()] == ["test_1.nii.gz"]


def test_mistakes_get_one_message(home):
    said = fail("test.py", CONFIG, "--data-root", "data", "--work-dir", "run", "--tta", cwd=home)
    assert "the training showed no flips or right angles" in said
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
