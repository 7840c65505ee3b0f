"""docs/nnunet.md: its configs and commands run as they are written, on made-up results and data."""

import shlex
import shutil
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from tests.cli.commands import SHORT, fail, succeed
from tests.datasets.volume_files import write_volume
from tests.nnunet_results import dataset_json, write_json, write_results
from tests.test_docs import blocks, home  # noqa: F401

PAGE = "docs/nnunet.md"
RESULTS = "nnUNet_results/Dataset017_Abdomen/nnUNetTrainer__nnUNetPlans__2d"
QUICK = ["--cfg-options", *SHORT, "train_cfg.max_iters=2", "train_dataloader.batch_size=2"]
SLIM = ["network.backbone.base_channels=8", "network.backbone.stem_channels=8"]


def test_the_page(home: Path) -> None:  # noqa: F811
    raw = home / "nnUNet_raw/Dataset017_Abdomen"
    write_json(raw / "dataset.json", dataset_json())
    rng = np.random.default_rng(0)
    for name in "abcde":
        label = np.zeros((3, 40, 36), np.uint8)
        label[:, 8:20, 6:18], label[:, 22:30, 20:30] = 1, 2
        image = rng.normal(0, 30, label.shape) + np.array([-100, 80, 200])[label]
        for folder in ("imagesTr", "imagesTs"):
            write_volume(raw / folder / f"{name}_0000.nii.gz", image.astype(np.int16), (1.2, 1.2, 3.0), "RAS")
        write_volume(raw / "labelsTr" / f"{name}.nii.gz", label, (1.2, 1.2, 3.0), "RAS")
    write_results(home / RESULTS, folds=(0,))
    commands = []
    for kind, name, text in blocks(PAGE):
        if name:
            (home / name).parent.mkdir(exist_ok=True)
            (home / name).write_text(text)
        elif kind == "bash":
            commands += [shlex.split(line)[1:] for line in text.splitlines()]
    assert [command[0] for command in commands] == ["tools/predict.py", "test.py", "train.py", "test.py"]
    predict, test, train, test_student = commands
    succeed(*predict, cwd=home)
    succeed(*test, "--out", "tested", *QUICK[:1], *SHORT, cwd=home)
    found, own = (sitk.ReadImage(str(home / path)) for path in ("tested/a.nii.gz", "masks/a_0000.nii.gz"))
    assert np.array_equal(*map(sitk.GetArrayFromImage, (found, own)))
    log = succeed(*train, *QUICK, *(f"model.architecture.{key}" for key in SLIM), cwd=home)
    assert "sees the slices resampled by 1.200 x 1.200 to 1 x 1 mm, logits back; turned as its files lay" in log
    assert "teacher (nnUNet_results" in log and "distill.loss_cwd" in log
    succeed(*test_student, *QUICK[:1], *SHORT, *(f"model.architecture.{key}" for key in SLIM), cwd=home)
    assert "brings its weights: give no checkpoint" in fail(*test, "--best", cwd=home)

    succeed("train.py", "configs/my/planned.py", *train[2:], *QUICK, cwd=home)
    shutil.rmtree(home / "nnUNet_results")
    succeed("tools/predict.py", "work_dirs/planned", *predict[2:3], "--out", "own", cwd=home)
    assert sitk.ReadImage(str(home / "own/a_0000.nii.gz")).GetSize() == found.GetSize()
