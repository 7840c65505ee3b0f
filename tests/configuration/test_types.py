"""Types that a config names and nobody knows."""

import pytest
from mmengine.config import Config

from medseg_kd.configuration import type_errors_explained
from medseg_kd.errors import UserError
from medseg_kd.registry import HOOKS, OPTIM_WRAPPERS
from tests.engine.tiny import CONFIG


@pytest.fixture(scope="module")
def cfg() -> Config:
    return Config.fromfile(CONFIG)


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
