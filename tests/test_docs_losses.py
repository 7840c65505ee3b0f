"""docs/losses.md: its losses train as they are written, and its table of ignored pixels is true."""

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict

from medseg_kd.models import RegionSegmentor, Segmentor
from medseg_kd.models.losses import build_losses
from medseg_kd.registry import MODELS
from tests.cli.commands import ROOT, succeed
from tests.models.segmentors import Pointwise
from tests.test_docs import blocks, home  # noqa: F401

PAGE = "docs/losses.md"
REGIONS = [("all", (1, 2, 3), 1), ("inner", (3,), 2)]


@pytest.fixture
def clone(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:  # noqa: F811
    """The page's files in a clone."""
    for _, name, text in blocks(PAGE):
        if name:
            (home / name).parent.mkdir(exist_ok=True)
            (home / name).write_text(text)
    monkeypatch.syspath_prepend(home)
    yield home
    sys.modules.pop("my_losses", None)


def test_the_losses_that_are_there() -> None:
    """Each block changes the losses of a config, whose model then computes them."""
    snippets = [text for kind, name, text in blocks(PAGE) if kind == "python" and not name]
    labels = torch.randint(9, (2, 16, 12), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    found = []
    for text in snippets:
        regions = dict(type=RegionSegmentor, regions=REGIONS) if "BCEWithLogits" in text else dict(type=Segmentor)
        model = ConfigDict(network=dict(type=Pointwise), num_classes=9, **regions)
        exec(text, {"model": model})
        losses = MODELS.build(model).loss(torch.rand(2, 1, 16, 12), labels)
        assert all(value.isfinite() and value > 0 for value in losses.values())
        found += list(losses)
    assert found == [
        *("loss_ce", "loss_dice", "loss_crossentropy", "loss_dicece", "loss_tversky", "loss_lovasz"),
        *("loss_bcewithlogits", "loss_dice"),
    ]


def test_the_new_loss_is_trained_on(clone: Path) -> None:
    ((_, _, script),) = [block for block in blocks(PAGE) if block[0] == "bash"]
    commands = script.replace("\\\n", "").splitlines()
    assert len(commands) == 2
    for line in commands:
        _, script, *arguments = shlex.split(line)
        text = succeed(str(clone / script), *arguments, cwd=clone)
    assert re.search(r"loss_topk \d.*loss_dice \d.*aux1.loss_topk \d", text), text


def test_the_new_loss_is_that_of_the_hardest_pixels(clone: Path) -> None:
    from my_losses import TopKLoss

    (loss,), (call,) = build_losses([dict(type=TopKLoss, share=0.25)], 4, 4, 255)
    assert call.leaves_out
    logits, label = torch.randn(1, 4, 2, 4), torch.randint(4, (1, 2, 4))
    pixels = F.cross_entropy(logits, label, reduction="none").flatten().sort().values
    torch.testing.assert_close(call(loss, logits, label), pixels[-2:].mean())


def test_the_table_of_ignored_pixels() -> None:
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \| (.*?)\|$", text, flags=re.MULTILINE)
    assert len(rows) == 4
    options = {
        "monai": dict(to_onehot_y=True, softmax=True),
        "monai.FocalLoss": dict(to_onehot_y=True, use_softmax=True, ignore_index=255),
        "mmseg.LovaszLoss": dict(reduction="none"),
    }
    for row in rows:
        for names, leaves_out in zip(row, (True, False), strict=True):
            for name in re.findall(r"`([\w.]+Loss|[\w.]+Entropy)`", names):
                regions = [(1, 2), (2,)] if name == "RegionLoss" else ()
                cfg = dict(type=name, **options.get(name, options.get(name.partition(".")[0], {})))
                _, (call,) = build_losses([cfg], len(regions) or 9, 9, 255, regions)
                assert call.leaves_out == leaves_out, name
