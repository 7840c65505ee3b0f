"""Options of the command line against a config."""

import pytest
from mmengine.config import Config

from medseg_kd.cli.config import _check_key, _check_scope, type_errors_explained
from medseg_kd.errors import UserError
from medseg_kd.registry import HOOKS, OPTIM_WRAPPERS
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
    _check_key(cfg, key)


@pytest.mark.parametrize(
    "key", ["train_cfg.max_iter", "optim_wrapper.clip_grid.max_norm", "model.network.dept", "data_root"]
)
def test_a_key_that_nothing_takes(cfg, key):
    with pytest.raises(UserError, match=key):
        _check_key(cfg, key)


def test_a_config_of_mmrazors_scope_says_what_to_change():
    with pytest.raises(UserError, match="write type='mmrazor.<Name>'"):
        _check_scope(Config({"model": {"type": "SingleTeacherDistill", "_scope_": "mmrazor"}}))


@pytest.mark.parametrize(
    ("registry", "part", "message"),
    [
        (
            OPTIM_WRAPPERS,
            {"type": "AmpOptimWraper"},
            f"{CONFIG.name}: type='AmpOptimWraper' is not .* AmpOptimWrapper",
        ),
        (HOOKS, {"type": "Zebra"}, f"{CONFIG.name}: type='Zebra' is not known as hook. A class of your own"),
        (HOOKS, {"interval": 1}, f"{CONFIG.name}: a part has no type"),
    ],
)
def test_a_type_that_is_unknown_or_missing_anywhere_in_a_config(cfg, registry, part, message):
    with pytest.raises(UserError, match=message), type_errors_explained(cfg):
        registry.build(part)


def test_other_missing_keys_stay_what_they_are():
    with pytest.raises(KeyError), type_errors_explained(Config({})):
        {}["type"]
