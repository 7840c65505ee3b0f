"""docs/distillation.md: the method that it adds works as it is written, and its numbers are those of the code."""

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from medseg_kd import distill
from medseg_kd.distill import METHODS
from medseg_kd.registry import MODELS
from tests.cli.commands import ROOT
from tests.distill.pairs import segmentor
from tests.test_docs import blocks, home  # noqa: F401

PAGE = "docs/distillation.md"


@pytest.fixture
def pair(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:  # noqa: F811
    """The page's files in a clone; the config of the pair with its method."""
    for _, name, text in blocks(PAGE):
        if name:
            (home / name).parent.mkdir(exist_ok=True)
            (home / name).write_text(text)
    monkeypatch.chdir(home)
    monkeypatch.syspath_prepend(home)
    yield home / "configs/my/mse_unet_r50_unet_r18_40k_synapse.py"
    sys.modules.pop("my_methods", None)


def test_the_new_method_distils(pair):
    cfg = Config.fromfile(pair)
    cfg.model.teacher_ckpt = None
    for model in (cfg.model.architecture, cfg.model.teacher):
        model.network.backbone.update(base_channels=8, stem_channels=8)
    model = MODELS.build(cfg.model).train()
    labels = torch.randint(9, (2, 64, 64), dtype=torch.uint8)
    losses = model(torch.rand(2, 1, 64, 64), labels, mode="loss")
    assert losses["distill.loss_mse"] > 0
    losses["distill.loss_mse"].backward()
    assert model.student.network.backbone.layer4[0].conv1.weight.grad.abs().sum() > 0


def test_the_new_loss_does_not_change_with_a_constant_and_leaves_ignored_pixels_out(pair):
    loss = importlib.import_module("my_methods").LogitMSELoss(loss_weight=2)
    student, teacher = torch.randn(2, 2, 3, 8, 8)
    plain = loss(student, teacher)
    assert torch.allclose(plain, 2 * (student - teacher).sub((student - teacher).mean(1, True)).square().mean())
    assert torch.allclose(plain, loss(student + 5, teacher))
    label = torch.zeros(2, 8, 8)
    label[:, :4] = 255
    assert torch.allclose(loss(student, teacher, label), loss(student[:, :, 4:], teacher[:, :, 4:]))


def test_the_weights_that_change_are_built_as_they_are_written():
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    told = re.findall(r"^    distiller\.update\(((?:weight_schedule|loss_weight)=dict.*)\)$", text, flags=re.MULTILINE)
    assert len(told) == 4
    for arguments in told:
        distiller = dict(type=distill.KD)
        distiller.update(**eval(f"dict({arguments})"))
        model = MODELS.build(segmentor())
        weighting = distill.build_distiller(distiller, model, model).weighting
        assert (weighting.rule is None) == ("loss_weight" not in arguments)
        weighting.set_iteration(39_999, 40_000)
        assert weighting.factor.item() == pytest.approx(0 if "decay" in arguments else 1, abs=1e-4)


def test_the_table_of_defaults_is_that_of_the_code():
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| .*? \| (.*?) \|", text, flags=re.MULTILINE)
    assert [name for name, _ in rows] == [
        *("KD", "DKD", "DIST", "CWD", "AT", "ReviewKD", "LSKD", "MGD", "CIRKD", "AttnFD", "IFVD", "BPKD")
    ]
    assert {name for name, _ in rows} == {name for name, kind in METHODS.items() if "medseg_kd" in kind.__module__}
    for name, told in rows:
        defaults = {key: p.default for key, p in inspect.signature(getattr(distill, name)).parameters.items()}
        assert float(re.search(r"(?<!_)weight ([\d,.]+)", told)[1].replace(",", "")) == defaults["loss_weight"]
        for key, value in re.findall(r"`(\w+)=([\d.]+)`", told):
            assert defaults[key] == float(value)


def test_stored_soft_labels_teach(pair):
    model = MODELS.build(Config.fromfile(pair.with_name("kd_stored_unet_r18.py")).model).train()
    labels = torch.randint(9, (2, 64, 64), dtype=torch.uint8)
    soft = torch.randn(2, 9, 64, 64).softmax(1)
    losses = model(torch.rand(2, 1, 64, 64), labels, mode="loss", soft=soft)
    assert losses["distill.loss_kd"] > 0
