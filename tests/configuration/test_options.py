"""Options against a config."""

import copy

import pytest
from mmengine.config import Config

from medseg_kd.configuration import set_options
from medseg_kd.errors import UserError
from tests.engine.tiny import CONFIG


@pytest.fixture(scope="module")
def cfg() -> Config:
    return Config.fromfile(CONFIG)


@pytest.mark.parametrize(
    "key",
    [
        "train_cfg.max_iters",
        "param_scheduler.0.end",
        "model.data_preprocessor.size",
        "optim_wrapper.clip_grad.max_norm",
    ],
)
def test_a_key_that_the_config_has_or_its_type_takes(cfg, key):
    set_options(copy.deepcopy(cfg), {key: 7})


@pytest.mark.parametrize(
    "key", ["train_cfg.max_iter", "optim_wrapper.clip_grid.max_norm", "model.network.dept", "data_root"]
)
def test_a_key_that_nothing_takes(cfg, key):
    with pytest.raises(UserError, match=key):
        set_options(cfg, {key: 7})
