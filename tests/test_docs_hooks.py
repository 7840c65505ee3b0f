"""docs/hooks.md: what it trains runs as it is written, and MMEngine's hooks are built."""

import re
import shlex
from pathlib import Path

import torch
from mmengine.hooks import EMAHook
from PIL import Image

from medseg_kd.registry import HOOKS, VISBACKENDS
from tests.cli.commands import succeed
from tests.test_docs import blocks, home  # noqa: F401

PAGE = "docs/hooks.md"


def test_what_the_page_trains(home: Path) -> None:  # noqa: F811
    """The new hook, by its class and by its name, and pictures of the validation."""
    printed = []
    for kind, name, text in blocks(PAGE):
        if kind == "python" and name:
            (home / name).parent.mkdir(exist_ok=True)
            (home / name).write_text(text)
        for line in text.replace("\\\n", "").splitlines() if kind == "bash" else ():
            _, script, *arguments = shlex.split(line)
            printed.append(succeed(str(home / script), *arguments, cwd=home))
    assert ["the backbone was frozen for 1 iterations" in text for text in printed] == [False, True, True, False]
    (picture,) = home.glob("work_dirs/unet_drawn_40k_synapse/*/vis_data/vis_image/*.png")
    assert Image.open(picture).size == (2 * 64, 64)  # truth beside prediction


def test_the_new_hook_freezes_and_frees() -> None:
    (source,) = [text for _, name, text in blocks(PAGE) if name == "my_hooks.py"]
    names: dict = {}
    try:
        exec(source, names)
    finally:
        HOOKS.module_dict.pop("FreezeBackboneHook", None)
    hook, model = names["FreezeBackboneHook"](iters=1), torch.nn.Module()
    model.network = torch.nn.Module()
    model.network.backbone = torch.nn.Conv2d(1, 1, 1)

    class Runner:
        bare_model, iter = model, 0

    for Runner.iter, trained in ((0, False), (1, True)):
        hook.before_train_iter(Runner, 0)
        assert model.network.backbone.weight.requires_grad == trained


def test_the_hooks_that_are_there() -> None:
    snippets = [text for kind, name, text in blocks(PAGE) if kind == "python" and not name]
    built, tracked = [], []
    for text in snippets:
        names: dict = {}
        exec(text, names)
        built += [HOOKS.build(hook) for hook in names.get("custom_hooks", ())]
        tracked += re.findall(r'type="(\w+VisBackend)"', text)
    assert tracked and all(VISBACKENDS.get(name).__module__ == "medseg_kd.engine.tracking" for name in tracked)
    averages, early, finite = built
    assert isinstance(averages, EMAHook) and early.monitor == "mDice" and finite.skip == 3
