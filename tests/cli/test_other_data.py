"""Data that are no grey CT slices, from a config of a few lines: RGB photographs, four MR channels of nnU-Net."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from PIL import Image

from tests.cli.commands import ROOT, SHORT, fail, succeed

SMALL = ("model.network.backbone.base_channels=8", "model.network.backbone.stem_channels=8")
RGB = """
from mmengine.config import read_base

with read_base():
    from .configs.unet.unet_r18v1c_d8_40k_synapse import *

spec = dict(channels="RGB", classes=("background", "lesion"))
for loader in (train_dataloader, val_dataloader, test_dataloader):
    loader.update(dataset=dict(data_root="lesions", spec=spec))
model.update(num_classes=2)
"""
MR = """
from mmengine.config import read_base

with read_base():
    from .configs.unet.unet_r18v1c_d8_40k_synapse import *

for loader in (train_dataloader, val_dataloader, test_dataloader):
    loader.update(dataset=dict(data_root="Dataset007_Tumor", metainfo=None))
model.update(num_classes=None)
"""
REGIONAL = MR.replace("(num_classes", '(type="RegionSegmentor", losses=[dict(type="RegionLoss")], num_classes')
REGIONS = {"whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": 3}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    return tmp_path


def write_config(home: Path, name: str, text: str) -> str:
    assert len(text.strip().splitlines()) <= 12
    (home / name).write_text(text.lstrip())
    return name


def options(iterations: int) -> tuple[str, ...]:
    return ("--cfg-options", *SHORT, *SMALL, f"train_cfg.max_iters={iterations}", "train_cfg.val_interval=1000")


def scores(home: Path, run: str) -> dict:
    return json.loads((home / f"work_dirs/{run}/test/metrics.json").read_text())["strict"]


def write_photographs(root: Path) -> None:
    """Thirty photographs to train on and ten to test on: a lesion is redder than the skin, and no brighter."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64]
    for number in range(40):
        split = "train" if number < 30 else "test"
        row, column = rng.uniform(20, 44, 2)
        mask = (rows - row) ** 2 + (columns - column) ** 2 < rng.uniform(9, 14) ** 2
        skin = np.stack([150 - 30 * ~mask, 110 + 15 * ~mask, 100 + 15 * ~mask], -1)
        photo = (skin + rng.normal(0, 8, (64, 64, 3))).clip(0, 255).astype(np.uint8)
        for folder, pixels in (("img_dir", photo), ("ann_dir", mask.astype(np.uint8) * 255)):
            path = root / folder / split / f"photo_{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


def write_tumors(root: Path) -> None:
    """Six cases of four MR channels, ball in ball in ball, with a border of unknown voxels."""
    rng = np.random.default_rng(0)
    z, y, x = np.mgrid[:8, :64, :64]
    for kind in ("imagesTr", "labelsTr"):
        (root / kind).mkdir(parents=True)
    for number in range(6):
        row, column = rng.uniform(26, 38, 2)
        distance = np.sqrt((y - row) ** 2 + (x - column) ** 2 + (3 * (z - 4)) ** 2)
        label = np.select([distance < 7, distance < 12, distance < 18], [3, 2, 1], 0).astype(np.uint8)
        label[:, :2] = 4
        for channel in range(4):
            values = np.array([100, 100, 100, 100, 100.0])
            values[[1, 2, 3][channel % 3] :] += 60 + 20 * channel
            image = sitk.GetImageFromArray((values[label] + rng.normal(0, 5, label.shape)).astype(np.float32))
            image.SetSpacing((1.0, 1.0, 3.0))
            sitk.WriteImage(image, str(root / f"imagesTr/case_{number}_{channel:04d}.nii.gz"))
        truth = sitk.GetImageFromArray(label)
        truth.SetSpacing((1.0, 1.0, 3.0))
        sitk.WriteImage(truth, str(root / f"labelsTr/case_{number}.nii.gz"))
    cases = [f"case_{number}" for number in range(6)]
    (root / "splits_final.json").write_text(json.dumps([{"train": cases[:4], "val": cases[4:]}]))
    labels = {"background": 0, **REGIONS, "ignore": 4}
    content = {
        "channel_names": {"0": "T1", "1": "T1ce", "2": "T2", "3": "FLAIR"},
        "labels": labels,
        "regions_class_order": [1, 2, 3],
        "numTraining": 6,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(content))


def test_photographs_with_one_lesion(home: Path) -> None:
    write_photographs(home / "lesions")
    config = write_config(home, "lesions_rgb.py", RGB)
    log = succeed("train.py", config, *options(60), "train_dataloader.batch_size=4", cwd=home)
    assert "[60/60]" in log
    log = succeed("test.py", config, *options(60), cwd=home)
    assert "10 case(s)" in log
    assert scores(home, "lesions_rgb")["per_class"]["lesion"]["Dice"] > 60
    meta = torch.load(home / "work_dirs/lesions_rgb/iter_60.pth", weights_only=True)["meta"]
    assert meta["spec"]["channel_names"] == {"0": "red", "1": "green", "2": "blue"}

    (home / "grey.py").write_text(RGB.lstrip().replace('channels="RGB", ', ""))
    assert "is a colour image" in fail("train.py", "grey.py", *options(2), cwd=home)


def test_four_channels_in_the_form_of_nnunet(home: Path) -> None:
    write_tumors(home / "Dataset007_Tumor")
    config = write_config(home, "tumor.py", MR)
    succeed("train.py", config, *options(60), "train_dataloader.batch_size=4", cwd=home)
    log = succeed("test.py", config, *options(60), "--save-predictions", cwd=home)
    assert "2 case(s)" in log
    found = scores(home, "tumor")
    assert list(found["per_class"]) == list(REGIONS)
    assert found["per_class"]["whole tumor"]["Dice"] > 60
    predicted = sitk.ReadImage(str(home / "work_dirs/tumor/test/predictions/case_4.nii.gz"))
    truth = sitk.ReadImage(str(home / "Dataset007_Tumor/labelsTr/case_4.nii.gz"))
    assert predicted.GetSize() == truth.GetSize() and predicted.GetSpacing() == truth.GetSpacing()
    assert set(np.unique(sitk.GetArrayFromImage(predicted))) <= {0, 1, 2, 3}

    data = home / "Dataset007_Tumor"
    (data / "imagesTs").mkdir()
    for path in (data / "imagesTr").glob("case_5_*"):
        shutil.copy(path, data / "imagesTs" / path.name.replace("case_5", "case_9"))
    unlabelled = "test_dataloader.dataset.format_options.unlabelled=True"
    log = succeed("test.py", config, "--save-predictions", *options(60), unlabelled, cwd=home)
    assert "Not scored, as they have no label: case_9" in log
    of_case_9, of_case_5 = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(home / f"work_dirs/tumor/test/predictions/case_{number}.nii.gz")))
        for number in (9, 5)
    )
    assert np.array_equal(of_case_9, of_case_5)


def test_regions_are_learned_as_they_overlap(home: Path) -> None:
    write_tumors(home / "Dataset007_Tumor")
    config = write_config(home, "overlapping.py", REGIONAL)
    log = succeed("train.py", config, *options(60), "train_dataloader.batch_size=4", cwd=home)
    assert "loss_region" in log
    checkpoint = torch.load(home / "work_dirs/overlapping/iter_60.pth", weights_only=True)
    heads = [tensor for name, tensor in checkpoint["state_dict"].items() if name.endswith("conv_seg.bias")]
    assert {len(bias) for bias in heads} == {3}
    assert checkpoint["meta"]["spec"]["regions_class_order"] == [1, 2, 3]
    # The config that the run wrote has its dicts sorted; what it says of regions is in lists.
    succeed("test.py", "work_dirs/overlapping/overlapping.py", cwd=home)
    found = scores(home, "overlapping")["per_class"]
    assert found["whole tumor"]["Dice"] > 60 and found["tumor core"]["Dice"] > 40
