"""What MMEngine's and MMSegmentation's users write works here: runners, evaluators, visualizers, wrappers, loops."""

import os
import subprocess
import sys
from pathlib import Path

import mmengine.runner
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper
from mmengine.registry import RUNNERS

import tests.torchvision_operators  # noqa: F401 (MMEngine's own runner imports torchvision)
from medseg_kd.configuration import choose_checkpoint, native_precision, set_test
from medseg_kd.engine import NativeAmpOptimWrapper, Runner
from medseg_kd.errors import UserError
from tests.conftest import ROOT
from tests.engine.test_runner import _equal
from tests.engine.tiny import tiny_config

NOTEBOOK = """
from mmengine.config import Config
from mmengine.runner import Runner

make = Runner.from_cfg  # looked up before the config brings the package
cfg = Config.fromfile({config!r})
cfg.update({changes!r})
runner = make(cfg)
assert type(runner).__module__ == "medseg_kd.engine.runner"
runner.train()
assert runner.val_dataloader.dataset.case_names == ["case0002"]
"""
OWN = """
from mmengine.config import read_base

with read_base():
    from .configs.demo.unet_r18_phantom import *

model.update(network=dict(backbone=dict(base_channels=8, stem_channels=8)))
train_cfg.update(max_iters=2)
val_cases = ["case0002"]
for loader in (train_dataloader, val_dataloader, test_dataloader):
    loader.update(num_workers=0, persistent_workers=False, dataset=dict(data_root={root!r}))
"""


@pytest.fixture(scope="module")
def trained(phantom: Path, tmp_path_factory) -> Path:
    """A config of the user's own, and the run that ``train.py`` made of it."""
    home = tmp_path_factory.mktemp("home")
    (home / "configs").symlink_to(ROOT / "configs")
    (home / "mine.py").write_text(OWN.format(root=str(phantom)))
    cfg = Config.fromfile(home / "mine.py")
    cfg.work_dir = str(home / "run")
    Runner.from_cfg(cfg).train()
    return home


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "iter_2.pth", weights_only=True)["state_dict"]


@pytest.mark.parametrize("config, changes", [("mine.py", {}), ("run/mine.py", {"work_dir": "work_dirs/mine"})])
def test_a_notebook_that_knows_mmengine_alone(trained: Path, tmp_path: Path, config: str, changes: dict) -> None:
    """The same weights, the held-out case, and checkpoints that open safely, from the config and from its dump."""
    code = NOTEBOOK.format(config=str(trained / config), changes=changes)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert _equal(_weights(tmp_path / "work_dirs/mine"), _weights(trained / "run"))


@pytest.mark.parametrize("build", [mmengine.runner.Runner.from_cfg, RUNNERS.build])
def test_mmengines_ways_to_a_runner(trained: Path, tmp_path: Path, build) -> None:
    cfg = Config.fromfile(trained / "mine.py")
    cfg.work_dir = str(tmp_path)
    runner = build(cfg)
    assert type(runner) is Runner
    runner.train()
    assert _equal(_weights(tmp_path), _weights(trained / "run"))


def test_configs_of_others_get_mmengines_runner(tmp_path: Path) -> None:
    cfg = dict(model=torch.nn.Identity(), work_dir=str(tmp_path))
    assert type(mmengine.runner.Runner.from_cfg(cfg)) is mmengine.runner.Runner


@pytest.mark.parametrize("kind", ["SegVisualizationHook", "mmseg.SegVisualizationHook"])
@pytest.mark.parametrize("back_ends", [{}, {"vis_backends": [dict(type="LocalVisBackend")]}])
def test_cases_are_drawn(phantom: Path, tmp_path: Path, kind: str, back_ends: dict) -> None:
    cfg = tiny_config(phantom, tmp_path, max_iters=1)
    cfg.visualizer = dict(type="SegLocalVisualizer", name=f"{kind}{len(back_ends)}", **back_ends)
    cfg.custom_hooks = [dict(type=kind, draw=True, interval=2)]
    Runner.from_cfg(cfg).train()
    (picture,) = tmp_path.rglob("val_*.png")
    assert picture.name == "val_case0005_2.png"
    assert next(tmp_path.rglob("scalars.json")).read_text()
    cfg.load_from, cfg.visualizer.name = str(tmp_path / "iter_1.pth"), f"test{kind}{len(back_ends)}"
    Runner.from_cfg(cfg).test()
    assert sorted(path.name for path in tmp_path.rglob("test_*.png")) == ["test_case0004_1.png", "test_case0005_2.png"]


@pytest.mark.parametrize(
    ("interval", "message"),
    [
        (1, r"would draw nothing.*visualizer=dict\(type='SegLocalVisualizer'\)"),
        (0, "interval is 0, expected an integer of at least 1"),
    ],
)
def test_a_visualizer_that_draws_nothing(phantom: Path, tmp_path: Path, interval: int, message: str) -> None:
    cfg = tiny_config(phantom, tmp_path)
    cfg.custom_hooks = [dict(type="SegVisualizationHook", draw=True, interval=interval)]
    with pytest.raises(UserError, match=message):
        Runner.from_cfg(cfg).train()


@pytest.mark.parametrize("kind", [AmpOptimWrapper, "AmpOptimWrapper", "mmengine.AmpOptimWrapper"])
@pytest.mark.parametrize("amp", [False, True])
def test_amp_configs_train_on_the_cpu(phantom: Path, tmp_path: Path, kind, amp: bool) -> None:
    cfg = tiny_config(phantom, tmp_path, max_iters=1)
    cfg.optim_wrapper.update(type=kind, loss_scale="dynamic", dtype="float16", accumulative_counts=2)
    if not amp:
        with pytest.raises(UserError, match="optim_wrapper.dtype='float16' asks for fp16, which a CPU does not"):
            Runner.from_cfg(cfg).train()
        cfg.optim_wrapper.pop("dtype")
    else:
        cfg.optim_wrapper = native_precision(cfg.optim_wrapper)
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert type(runner.optim_wrapper) is NativeAmpOptimWrapper and runner.optim_wrapper._accumulative_counts == 2


@pytest.mark.parametrize("several", ["list", "metrics"])
def test_several_metrics(phantom: Path, tmp_path: Path, several: str) -> None:
    cfg = tiny_config(phantom, tmp_path, max_iters=1)
    Runner.from_cfg(cfg).train()
    metrics = [dict(type="VolumeMetric"), dict(type="IoUMetric", iou_metrics=["mIoU"])]
    cfg.test_evaluator = metrics if several == "list" else dict(type="Evaluator", metrics=metrics)
    set_test(cfg, tmp_path / "iter_1.pth", tmp_path / "test/predictions")
    scores = Runner.from_cfg(cfg).test()
    assert {"mDice", "mHD95", "mIoU"} <= scores.keys()
    assert {path.name for path in (tmp_path / "test").iterdir()} == {"metrics.json", "per_case.csv", "predictions"}


@pytest.mark.parametrize("metric", ["mJaccard", "mDice"])
def test_the_best_of_two_metrics_is_that_of_the_first(phantom: Path, tmp_path: Path, metric: str) -> None:
    cfg = tiny_config(phantom, tmp_path, max_iters=1)
    cfg.val_evaluator.measures = ("Dice", "Jaccard")
    cfg.default_hooks.checkpoint.save_best = [metric, *{"mJaccard", "mDice"} - {metric}]
    Runner.from_cfg(cfg).train()
    found, notice = choose_checkpoint(cfg, best=True)
    assert found.name == f"best_{metric}_iter_1.pth" and f"its {metric[1:]} on the test cases" in notice


def test_epochs(phantom: Path, tmp_path: Path) -> None:
    """They are trained, resumed, and the best one is found."""
    cfg = tiny_config(phantom, tmp_path)
    cfg.train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=1)
    cfg.train_dataloader.sampler = dict(type="DefaultSampler", shuffle=True)
    cfg.default_hooks.checkpoint.update(by_epoch=True, interval=1)
    Runner.from_cfg(cfg).train()
    assert choose_checkpoint(cfg, best=True)[0].name == "best_mDice_epoch_1.pth"
    assert choose_checkpoint(cfg)[0].name == "epoch_1.pth"
    cfg.train_cfg.max_epochs, cfg.resume = 2, True
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert (tmp_path / "epoch_2.pth").is_file() and runner.iter == 2 * len(runner.train_dataloader)
