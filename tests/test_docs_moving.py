"""docs/moving.md: what it says that others write here is built and computes what it is said to."""

import importlib
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from medseg_kd.configuration import build_model, read_config
from medseg_kd.distill import SingleTeacherDistill
from tests.cli.commands import ROOT
from tests.distill.pairs import batch
from tests.test_docs import blocks, home  # noqa: F401

PAGE = "docs/moving.md"


@pytest.fixture
def moved(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """The page's files in a clone, which is the working directory."""
    for kind, name, text in blocks(PAGE):
        if kind == "python":
            (home / name).parent.mkdir(exist_ok=True)
            (home / name).write_text(text)
    monkeypatch.chdir(home)
    return home / "configs/my"


def build(config: Path) -> SingleTeacherDistill:
    torch.manual_seed(0)
    cfg = read_config(config)
    cfg.model.teacher_ckpt = None
    for model in (cfg.model.architecture, cfg.model.teacher):
        if "network" in model:
            model.network.backbone.update(base_channels=8, stem_channels=8)
    return build_model(cfg).train()


def distilled(algorithm: nn.Module) -> torch.Tensor:
    """Its distillation losses of a batch, the same dropout each time."""
    torch.manual_seed(0)
    losses = algorithm(*batch((64, 64)), mode="loss")
    return sum(value for name, value in losses.items() if name.startswith("distill."))


def test_cwd_by_hand_is_cwd_by_name(moved):
    by_hand = build(moved / "cwd_by_hand.py")
    by_name = build(moved / "cwd_by_name.py")
    for theirs, ours in ((by_hand.student, by_name.student), (by_hand.teacher, by_name.teacher)):
        ours.load_state_dict(theirs.state_dict())
    value = distilled(by_name)
    torch.testing.assert_close(distilled(by_hand), value)
    assert value > 0


@pytest.mark.parametrize("name", ["reviewkd_segformer_b0_unet_r18", "pkd_segformer_b0"])
def test_a_pair_with_models_of_mmsegmentation(moved, name):
    algorithm = build(moved / f"{name}.py")
    distilled(algorithm).backward()
    gradients = [parameter.grad for parameter in algorithm.student.parameters() if parameter.grad is not None]
    assert gradients and all(each.isfinite().all() for each in gradients) and any(each.any() for each in gradients)
    assert {name for name, parameter in algorithm.teacher.named_parameters() if parameter.grad is not None} == set()


def test_what_is_imported_here_exists():
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    found = re.findall(r"from (medseg_kd[\w.]*) import ([\w, ]+\w)", text)
    for module, names in found:
        for name in names.split(", "):
            assert hasattr(importlib.import_module(module), name), (module, name)
    assert len(found) > 4
