"""Averaged weights: of the student alone, under its own names, and resumed exactly."""

import mmengine.hooks
import pytest
import torch
from mmengine.hooks import Hook

from medseg_kd.distill import CWD, SingleTeacherDistill
from medseg_kd.engine import EMAHook, Runner
from tests.engine.test_runner import _equal
from tests.engine.tiny import tiny_config

MOMENTUM = 0.2


class Follow(Hook):
    """Averages by hand, and keeps the weights that a validation sees."""

    priority = "VERY_LOW"

    def __init__(self) -> None:
        self.average: dict[str, torch.Tensor] = {}
        self.validated: dict[str, torch.Tensor] = {}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        for name, now in _student(runner).named_parameters():
            before = self.average.get(name, now.detach())
            self.average[name] = (1 - MOMENTUM) * before + MOMENTUM * now.detach()

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.validated = {name: value.clone() for name, value in _student(runner).state_dict().items()}


def _student(runner):
    return getattr(runner.bare_model, "student", runner.bare_model)


def _config(phantom, folder, distilled=True, max_iters=4, **ema):
    cfg = tiny_config(phantom, folder, max_iters=max_iters)
    cfg.custom_hooks = [dict(type="EMAHook", momentum=MOMENTUM, **ema)]
    if distilled:
        teacher = {**cfg.model, "network": {**cfg.model.network, "width": 6}}
        distiller = dict(type=CWD, stage=-1)
        cfg.model = dict(type=SingleTeacherDistill, architecture=cfg.model, teacher=teacher, distiller=distiller)
    return cfg


def _load(path):
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("distilled", [False, True])
def test_what_a_checkpoint_holds(phantom, tmp_path, distilled):
    cfg = _config(phantom, tmp_path, distilled)
    plain = cfg.model.get("architecture", cfg.model)
    runner = Runner.from_cfg(cfg)
    follow = Follow()
    runner.register_hook(follow)
    runner.train()
    checkpoint = _load(tmp_path / "iter_4.pth")
    for name, value in follow.average.items():
        torch.testing.assert_close(checkpoint["state_dict"][name], value)
        torch.testing.assert_close(follow.validated[name], value)
    live = {f"module.{name}": value for name, value in _student(runner).state_dict().items()}
    assert _equal({**live, "steps": torch.tensor(4)}, checkpoint["ema_state_dict"])
    assert ("connectors" in checkpoint) == distilled
    cfg = tiny_config(phantom, tmp_path / "alone")
    cfg.update(model=plain, load_from=str(tmp_path / "iter_4.pth"))
    alone = Runner.from_cfg(cfg)
    alone.load_or_resume()
    assert _equal(dict(alone.model.state_dict()), checkpoint["state_dict"])


@pytest.mark.parametrize("ema", [{}, {"update_buffers": True}, {"begin_iter": 2}])
@pytest.mark.parametrize("distilled", [False, True])
def test_a_resumed_run_equals_the_run_that_was_never_stopped(phantom, tmp_path, distilled, ema):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    Runner.from_cfg(_config(phantom, whole, distilled, **ema)).train()
    Runner.from_cfg(_config(phantom, parts, distilled, 2, **ema)).train()
    cfg = _config(phantom, parts, distilled, **ema)
    cfg.update(resume=True, load_from=str(parts / "iter_2.pth"))
    Runner.from_cfg(cfg).train()
    one, other = (_load(folder / "iter_4.pth") for folder in (whole, parts))
    for key in {"state_dict", "ema_state_dict", "optimizer", "connectors"} & one.keys():
        assert _equal(one[key], other[key])
    assert not _equal(one["state_dict"], {k[7:]: v for k, v in one["ema_state_dict"].items() if k != "steps"})


@pytest.mark.parametrize("kind", [mmengine.hooks.EMAHook, EMAHook, "EMAHook", "mmengine.EMAHook", "mmseg.EMAHook"])
def test_every_name_gives_the_hook_that_leaves_the_teacher_out(phantom, tmp_path, kind):
    cfg = _config(phantom, tmp_path)
    cfg.custom_hooks[0].type = kind
    runner = Runner.from_cfg(cfg)
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, mmengine.hooks.EMAHook))
    assert type(hook) is EMAHook
    hook.before_run(runner)
    assert hook.ema_model.module.state_dict().keys() == runner.model.student.state_dict().keys()
