"""docs/datasets.md: its commands lead from raw files to the table, on made-up samples laid out as the downloads are."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from medseg_kd.datasets.conversion.known import KNOWN
from tests.cli.commands import ROOT, SHORT, succeed
from tests.nnunet_results import plans_json, write_json
from tests.raw_downloads import KVASIR, write_acdc, write_amos, write_isic, write_kvasir, write_msd, write_nnunet
from tests.test_docs import BLOCK

PAGE = "docs/datasets.md"
SMALL = ("train_cfg.max_iters=2", "train_dataloader.batch_size=2", "param_scheduler.0.end=2", *SHORT)
NARROW = ("backbone.base_channels=8", "backbone.stem_channels=8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", (ROOT / PAGE).read_text(), re.MULTILINE | re.DOTALL))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    return tmp_path


def run(section: str, home: Path, *sizes: str) -> list[str]:
    """Run the commands of a section on an incomplete download, with small networks and few iterations."""
    printed = []
    for _, text in BLOCK.findall(SECTIONS[section]):
        for line in text.replace("\\\n", " ").splitlines():
            python, script, *arguments = shlex.split(line)
            assert python == "python"
            if "prepare_dataset" in script:
                arguments.append("--allow-missing")
            elif "prepare" not in script:
                parts = ("architecture.", "teacher.") if "distill" in arguments[0] else ("",)
                narrow = [f"model.{part}network.{option}" for part in parts for option in NARROW]
                arguments += ["--cfg-options", *SMALL, *narrow, *sizes]
            printed.append(succeed(script, *arguments, cwd=home))
    return printed


def scores(home: Path, name: str) -> dict:
    return json.loads((home / "work_dirs" / name / "test/metrics.json").read_text())["transunet"]


def resized(height: int, width: int) -> list[str]:
    """Slices of this size when they are read."""
    return [f"{name}_dataloader.dataset.size=({height},{width})" for name in ("train", "val", "test")]


def test_acdc(home: Path) -> None:
    write_acdc(home / "ACDC", (1, 19, 2))
    printed = run("ACDC", home, *resized(32, 32))
    assert "made on a part of acdc" in printed[2] and "loss_cwd" in printed[3]
    found = scores(home, "cwd_unet_r50_unet_r18_40k_acdc")
    assert [*found["per_class"]] == ["RV", "MYO", "LV"] and found["mHD95"] is not None
    rows = (home / "work_dirs/unet_r50_s4_d8_40k_acdc/test/per_case.csv").read_text()
    assert {*re.findall(r"patient\d+_E\w", rows)} == {"patient002_ED", "patient002_ES"}


def test_kvasir_seg_scores_are_those_of_polyp_papers(home: Path) -> None:
    """Dice and IoU per image, with 1 added above and below as in the test code of TransCASCADE, and without."""
    names = KVASIR["pranet"][:4]
    write_kvasir(home, ["cju0a", "cju0b", *names])
    name, sizes = "unet_r18v1c_d8_40k_kvasir_seg", ("model.data_preprocessor.size=(32,32)",)
    run("Kvasir-SEG", home, *sizes, "train_cfg.max_iters=30", "default_hooks.checkpoint.interval=30")
    options = ("--cfg-options", *SMALL, *(f"model.network.{each}" for each in NARROW), *sizes)
    succeed("test.py", f"configs/unet/{name}.py", "--save-predictions", *options, cwd=home)
    dice, iou = np.zeros((2, 2, len(names)))
    for number, case in enumerate(names):
        found = sitk.GetArrayFromImage(sitk.ReadImage(str(home / f"work_dirs/{name}/test/predictions/{case}.nii.gz")))[
            0
        ]
        true = np.asarray(Image.open(home / f"data/kvasir_seg/ann_dir/test/{case}.png")) > 127
        both = np.sum((found == 1) & true)
        for smooth in (0, 1):
            dice[smooth, number] = (2 * both + smooth) / (np.sum(found == 1) + true.sum() + smooth)
            iou[smooth, number] = (both + smooth) / (np.sum((found == 1) | true) + smooth)
    ours = scores(home, name)
    assert 5 < ours["mDice"] < 99
    np.testing.assert_allclose([ours["mDice"], ours["mJaccard"]], [100 * dice[0].mean(), 100 * iou[0].mean()])
    np.testing.assert_allclose([ours["mDice"], ours["mJaccard"]], [100 * dice[1].mean(), 100 * iou[1].mean()], atol=0.3)


def test_isic_2018(home: Path) -> None:
    write_isic(home / "ISIC2018", {"Training": 2, "Validation": 1, "Test": 2})
    printed = run("ISIC 2018", home, *resized(32, 32))
    assert "2 case(s)" in printed[-1] and "made on a part of isic2018" in printed[-1]
    assert [*scores(home, "unet_r18v1c_d8_40k_isic2018")["per_class"]] == ["lesion"]


def test_raw_data_of_nnunet(home: Path) -> None:
    write_nnunet(home / "nnUNet_raw/Dataset017_Heart", "abcde")
    plans = home / "nnUNet_preprocessed/Dataset017_Heart/nnUNetPlans.json"
    plans.parent.mkdir(parents=True)
    write_json(plans, {**plans_json(), "dataset_name": "Dataset017_Heart"})
    printed = run("nnU-Net's raw data sets", home)
    assert all("slices are resized to (32, 24), its patches" in text for text in printed)
    assert "2 case(s)" in printed[-1] and scores(home, "unet_r18v1c_d8_40k_folder/fold_0")["per_class"]


def test_a_task_of_the_decathlon(home: Path) -> None:
    write_msd(home / "Task05_Prostate", "abcde", {"0": "T2", "1": "ADC"})
    assert "1 case(s)" in run("Medical Segmentation Decathlon", home)[-1]


def test_amos(home: Path) -> None:
    write_amos(home / "amos22_ct")
    assert "esophagus" in run("AMOS22, FLARE22 and LiTS", home)[-1]
    assert len(scores(home, "unet_r18v1c_d8_40k_folder")["per_class"]) == 15


def test_the_page_names_every_data_set_and_split() -> None:
    text = (ROOT / PAGE).read_text()
    for name, known in KNOWN.items():
        assert f"prepare_dataset.py {name} " in text
        assert all(f"`{split}`" in text for split in known.splits if len(known.splits) > 1)
