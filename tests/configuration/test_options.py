"""Options against a config."""

import copy

import pytest
from mmengine.config import Config

from medseg_kd.configuration import parse_options, set_options
from medseg_kd.errors import UserError
from tests.engine.tiny import CONFIG


@pytest.fixture(scope="module")
def cfg() -> Config:
    return Config.fromfile(CONFIG)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train_cfg.max_iters", 7),
        ("param_scheduler.0.end", 7),
        ("model.data_preprocessor.size", (7, 7)),
        ("optim_wrapper.clip_grad.max_norm", 7),
    ],
)
def test_a_key_that_the_config_has_or_its_type_takes(cfg, key, value):
    set_options(copy.deepcopy(cfg), {key: value})


@pytest.mark.parametrize(
    "key", ["train_cfg.max_iter", "optim_wrapper.clip_grid.max_norm", "model.network.dept", "data_root"]
)
def test_a_key_that_nothing_takes(cfg, key):
    with pytest.raises(UserError, match=key):
        set_options(cfg, {key: 7})


def test_quoted_digits_of_a_list_are_text():
    assert parse_options(["a=['01','2']", "b=[1,2]", "c=[x,y]"]) == {"a": ["01", "2"], "b": [1, 2], "c": ["x", "y"]}
