"""Values that make no sense are refused with their key, before anything is built."""

import math

import pytest
from mmengine.config import Config

from medseg_kd.configuration import check_config
from medseg_kd.errors import UserError
from tests.engine.tiny import CONFIG

DISTILLED = CONFIG.parents[1] / "distill/cwd/cwd_fcn_r50_fcn_r18_40k_synapse.py"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("train_cfg.max_iters", 0, "an integer of at least 1"),
        ("train_cfg.max_iters", "ten", "an integer of at least 1"),
        ("train_cfg.max_iters", True, "an integer of at least 1"),
        ("train_cfg.val_interval", 0, "an integer of at least 1"),
        ("train_cfg.val_interval", -5, "an integer of at least 1"),
        ("default_hooks.checkpoint.interval", 0, "an integer of at least 1, below 2**31, or -1 for never or all"),
        ("default_hooks.checkpoint.interval", -2, "an integer of at least 1"),
        ("default_hooks.checkpoint.max_keep_ckpts", 0, "an integer of at least 1"),
        ("default_hooks.logger.interval", -1, "an integer of at least 1"),
        ("default_hooks.logger.interval", 0, "an integer of at least 1"),
        ("optim_wrapper.optimizer.lr", math.nan, "a finite number of at least 0"),
        ("optim_wrapper.optimizer.lr", math.inf, "a finite number of at least 0"),
        ("optim_wrapper.optimizer.lr", -0.1, "a finite number of at least 0"),
        ("optim_wrapper.optimizer.lr", "a", "a finite number of at least 0"),
        ("optim_wrapper.accumulative_counts", 0, "an integer of at least 1"),
        ("optim_wrapper.clip_grad", dict(max_norm=0), "a finite number above 0"),
        ("train_dataloader.batch_size", 0, "an integer of at least 1, below 2**31, or None for a batch sampler"),
        ("train_dataloader.batch_size", "2", "an integer of at least 1, below 2**31, or None for a batch sampler"),
        ("val_dataloader.num_workers", -1, "an integer of at least 0"),
        ("model.size_divisor", -1, "an integer of at least 1"),
        ("model.num_classes", 0, "an integer of at least 1, below 2**31, or None for what the data say"),
        ("model.losses", [dict(type="CrossEntropyLoss", loss_weight=math.nan)], "a finite number of at least 0"),
        ("model.data_preprocessor.size", 224, "(height, width) of at least 1, or None"),
        ("randomness.seed", -1, "an integer from 0 to 4294967295, or None for a random one"),
        ("randomness.seed", 2**32, "an integer from 0 to 4294967295, or None for a random one"),
        ("param_scheduler", [dict(type="PolyLR", power=math.nan)], "a finite number of at least 0"),
        ("distiller.tau", 0, "a finite number above 0"),
        ("distiller.loss_weight", math.inf, "a finite number of at least 0, or a rule"),
    ],
)
def test_a_value_out_of_range(key, value, expected):
    cfg = Config.fromfile(DISTILLED if key.startswith("distiller") else CONFIG)
    key = f"model.{key}" if key.startswith("distiller") else key
    cfg.merge_from_dict({key: value}) if not isinstance(value, list) else cfg.update({key: value})
    if key == "model.losses":
        cfg.model.losses = value
    with pytest.raises(UserError) as error:
        check_config(cfg)
    message = str(error.value)
    assert f", expected {expected}" in message
    assert f"{cfg.filename}: {key}" in message and " is " in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("default_hooks.checkpoint.interval", -1),
        ("optim_wrapper.optimizer.lr", 0),
        ("optim_wrapper.clip_grad", dict(max_norm=1)),
        ("randomness.seed", None),
        ("train_dataloader.num_workers", 0),
    ],
)
def test_a_value_at_the_edge(key, value):
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict({key: value})
    check_config(cfg)
