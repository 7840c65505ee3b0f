"""The page of what a network sees: the batches of the training itself, over every kind of data, in one file."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from mmengine.config import Config
from PIL import Image

from medseg_kd.cli.browse_dataset import main
from medseg_kd.configuration import complete_run
from medseg_kd.engine import Runner
from medseg_kd.errors import UserError
from medseg_kd.report.look.batches import browse, count_classes
from medseg_kd.report.look.page import write_look_page
from medseg_kd.report.page.rendering import LIMIT
from tests.engine.tiny import tiny_config
from tests.raw_downloads import write_nnunet

CONFIGS = Path(__file__).parents[2] / "configs"
CWD = CONFIGS / "distill/cwd/cwd_unet_r50_unet_r18_40k_synapse.py"
NO_VALIDATION = [f"val_{name}=None" for name in ("dataloader", "cfg", "evaluator")]
LABEL = np.zeros((3, 32, 32), np.uint8)
LABEL[:, 8:20, 8:20], LABEL[0, 12:16, 12:16], LABEL[:, 24:28] = 1, 2, 3


def volumes_of_four_channels(root: Path) -> dict[str, Any]:
    """MR with regions that overlap, and with pixels to ignore."""
    for case in "ab":
        for channel in range(4):
            values = np.random.default_rng(channel).normal(100 * channel, 20, LABEL.shape).astype(np.float32)
            _write(root / f"imagesTr/{case}_{channel:04d}.nii.gz", values)
        _write(root / f"labelsTr/{case}.nii.gz", LABEL)
    told = dict(
        channel_names=dict(enumerate(("T1", "T1c", "T2", "FLAIR"))),
        labels=dict(background=0, whole=[1, 2], core=2, ignore=3),
        regions_class_order=[1, 2],
        numTraining=2,
        file_ending=".nii.gz",
    )
    (root / "dataset.json").write_text(json.dumps(told))
    return dict(format_options=dict(fold="all"))


def ct_with_neighbours(root: Path) -> dict[str, Any]:
    write_nnunet(root, "abc")
    rule = dict(type="Window", low=60, high=250)
    return dict(format_options=dict(fold=0), spec=dict(channels=dict(CT=rule), neighbours=1))


def photographs(root: Path) -> dict[str, Any]:
    """RGB of two sizes, and a class that no image has."""
    for name, side in (("a", 32), ("b", 40)):
        for folder, mode in (("img_dir", "RGB"), ("ann_dir", "L")):
            (root / folder / "train").mkdir(parents=True, exist_ok=True)
            pixels = np.zeros((side, side), np.uint8) if mode == "L" else np.full((side, side, 3), (200, 90, 30), "u1")
            pixels[:8] = 1
            Image.fromarray(pixels).save(root / folder / "train" / f"{name}.png")
    return dict(spec=dict(classes=("background", "polyp", "ulcer"), channels="RGB"))


def _write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))


def config(data: dict[str, Any], root: Path) -> Config:
    cfg = Config.fromfile(CONFIGS / "unet/unet_r18v1c_d8_40k_folder.py")
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        cfg[name].dataset.update(data_root=str(root), split="train", **data)
    cfg.train_dataloader.dataset.cache = None
    cfg.work_dir = str(root / "run")
    complete_run(cfg)
    return cfg


def words(page: str) -> str:
    """What a page says, without its pictures and tags."""
    return " ".join(re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL).split())


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (
            volumes_of_four_channels,
            [
                "the network gets 4 x 32 x 32",
                "4 channels, in this order: T1, T1c, T2, FLAIR.",
                "ZScore(nonzero=False) in the files",
                "region whole (label 1, core) 864 14.1 6 100.0",
                "region core (core) 32 0.521 2 33.3",
                "ignored 768 12.5 6 100.0",
            ],
        ),
        (
            ct_with_neighbours,
            [
                "the network gets 3 x 36 x 32",
                "CT of slice -1, CT, CT of slice +1",
                "1.7% below 60, 7.4% above 250",
                "LV 144",
            ],
        ),
        (
            photographs,
            [
                "the network gets 3 x 40 x 40",
                "ulcer: never occurs 0 0 0 0.0",
                "red Rule: RGB8()",
                "in the files 1 to 200",
                "ignored",
            ],
        ),
    ],
)
def test_every_kind_of_data(tmp_path: Path, write: Callable[[Path], dict[str, Any]], told: list[str]) -> None:
    data = write(tmp_path)
    for split in ("train", "val") if write is photographs else ("train",):
        browsed = browse(config(data, tmp_path), split, 1)
        never = write_look_page(browsed, tmp_path / "page.html", "mine", [])
        page = (tmp_path / "page.html").read_text(encoding="utf-8")
        for text in told if split == "train" else ():
            assert text in words(page), words(page)
        assert never == ["ulcer"] * ("ulcer" in page) and len(page) < LIMIT
        assert ("before augmentation" in page) == (split == "train")
        assert ("augment nothing" in page) == (split == "val")


def test_the_batches_are_those_of_the_training(phantom: Path, tmp_path: Path) -> None:
    cfg = tiny_config(phantom, tmp_path, max_iters=3)
    runner, trained = Runner.from_cfg(cfg), []
    hook = lambda module, given, batch: trained.append(batch)  # noqa: E731
    runner.bare_model.data_preprocessor.register_forward_hook(hook)
    runner.train()
    slices = browse(tiny_config(phantom, tmp_path / "other"), "train", 3).slices
    assert [each.batch for each in slices] == [0, 0, 1, 1, 2, 2]
    for which, key in enumerate(("inputs", "labels")):
        expected = np.concatenate([batch[key].numpy() for batch in trained[:3]])
        assert np.array_equal(np.stack([each.seen[which] for each in slices]), expected)
    assert any(not np.array_equal(each.seen[0], each.plain[0]) for each in slices)
    names = [f"{meta['case_name']}, slice {meta['slice_index']}" for batch in trained[:3] for meta in batch["meta"]]
    assert [each.name for each in slices] == names


def test_cases_without_a_label_count_nothing() -> None:
    unlabelled = dict(inputs=torch.zeros(2, 1, 4, 4), labels=None, meta={})
    assert [*count_classes([unlabelled])] == []
    (first, second) = count_classes([unlabelled, dict(unlabelled, labels=torch.ones(2, 4, 4, dtype=torch.uint8))])
    assert first[1] == second.sum() == 16


def test_the_command_on_a_distillation(phantom: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """Of the student; there is no teacher's checkpoint, and the page asks nothing of a network."""
    monkeypatch.chdir(tmp_path)
    main([str(CWD), "--data-root", str(phantom), "--split", "test", "--batches", "1", "--seed", "3"])
    (page,) = tmp_path.glob("work_dirs/*/browse_test.html")
    assert "browse_test.html: 4 slices" in capsys.readouterr().out
    text = page.read_text(encoding="utf-8")
    assert "case0004, slice 3" in text and "the first 1 with seed 3" in text and "gallbladder" in text
    addresses = re.findall(r"(?:src|href)=\"([^\"]*)\"|url\(([^)]*)\)", text)
    assert {(first or second).partition(":")[0][:1] for first, second in addresses} <= {"d", "#"}  # data: and anchors
    assert (
        "default-src 'none'" in text
        and "light dark" in text
        and not re.search("https?:", re.sub(r"xmlns=\S+", "", text))
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--split", "val", "--cfg-options", *NO_VALIDATION], "the config has no val_dataloader"),
        (["--data-root", "nowhere"], "data folder not found: nowhere"),
    ],
)
def test_what_cannot_be_shown(phantom: Path, tmp_path: Path, options: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main([str(CWD), "--data-root", str(phantom), "--out", str(tmp_path / "page.html"), *options])
    assert not (tmp_path / "page.html").exists()
