"""tools/predict.py: a trained checkpoint alone gives what test.py gives."""

import json

import numpy as np
import SimpleITK as sitk  # noqa: N813

from tests.cli.commands import ROOT, SHORT, command, fail, succeed


def test_it_predicts_what_test_py_saves(phantom, tmp_path):
    config = ROOT / "configs/demo/unet_r18_half_phantom.py"
    options = ("--data-root", phantom, "--work-dir", "run", "--cfg-options", *SHORT, "train_cfg.max_iters=2")
    succeed("train.py", config, *options, cwd=tmp_path)
    succeed("test.py", config, "--save-predictions", *options, cwd=tmp_path)
    cases = sorted((phantom / "test_vol_h5").glob("*.h5"))
    bad = tmp_path / "bad.nii.gz"
    bad.write_text("no volume")
    done = command("tools/predict.py", "run", cases[0], bad, cases[1], "--out", "masks", cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "not predicted: " in done.stderr and "bad.nii.gz" in done.stderr.partition("not predicted: ")[2]
    for case in cases:
        name = case.name.removesuffix(".npy.h5") + ".nii.gz"
        files = (tmp_path / "run/test/predictions" / name, tmp_path / "masks" / name)
        saved, predicted = (sitk.ReadImage(str(file)) for file in files)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(predicted), sitk.GetArrayFromImage(saved))
        assert predicted.GetSpacing() == saved.GetSpacing() and predicted.GetDirection() == saved.GetDirection()
    labels = json.loads((tmp_path / "masks/labels.json").read_text())["labels"]
    assert labels["aorta"] == 1 and len(labels) == 9


def test_mistakes_get_one_message(tmp_path):
    assert "run is not there" in fail("tools/predict.py", "run", "a.nii.gz", "--out", "masks", cwd=tmp_path)
