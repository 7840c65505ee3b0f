"""Runs that go on after their end."""

import pytest
import torch
from mmengine.config import Config

from medseg_kd.configuration import extend
from medseg_kd.engine import Runner
from medseg_kd.errors import UserError
from tests.engine.tiny import CONFIG, tiny_config


def _scheduled(phantom, folder, **schedule):
    cfg = tiny_config(phantom, folder, 3)
    cfg.param_scheduler = [dict(type="PolyLR", power=1.0, eta_min=1e-3, by_epoch=False, **schedule)]
    return cfg


def _rates(path):
    return torch.load(path, weights_only=True)["message_hub"]["log_scalars"]["train/lr"]["log"]


@pytest.mark.parametrize("told", [3, 40])
def test_the_learning_rate_stays_at_its_end(phantom, tmp_path, told):
    """Whatever max_iters the config tells by now, a schedule without an end has that of the run."""
    Runner.from_cfg(_scheduled(phantom, tmp_path)).train()
    cfg = _scheduled(phantom, tmp_path)
    cfg.train_cfg.max_iters = told
    said = extend(cfg, 6)
    assert "from iteration 3 to 6; the learning rate stays where its schedule ends, at iteration 3" in said
    Runner.from_cfg(cfg).train()
    rates = [float(value) for value, *_ in map(_first, _rates(tmp_path / "iter_6.pth"))]
    assert len(rates) == 6 and rates[3:] == pytest.approx([1e-3] * 3) and rates[0] > rates[1] > rates[3]


def _first(value):
    return value if isinstance(value, (list, tuple)) else (value,)


def test_a_schedule_that_is_longer_goes_on(phantom, tmp_path):
    Runner.from_cfg(_scheduled(phantom, tmp_path, end=8)).train()
    cfg = _scheduled(phantom, tmp_path, end=8)
    assert "follows its schedule, which ends at 8" in extend(cfg, 5)
    assert cfg.resume and cfg.train_cfg.max_iters == 5 and cfg.load_from is None
    with pytest.raises(UserError, match="iter_3.pth is at iteration 3, so more than that is needed"):
        extend(_scheduled(phantom, tmp_path), 3)


def test_what_cannot_be_extended(tmp_path):
    cfg = Config.fromfile(CONFIG)
    cfg.work_dir = str(tmp_path)
    with pytest.raises(UserError, match="holds no iter_<N>.pth to go on from"):
        extend(cfg, 3)
    cfg.train_cfg = dict(by_epoch=True, max_epochs=3)
    with pytest.raises(UserError, match="raise train_cfg.max_epochs"):
        extend(cfg, 3)
