"""Values that would end a run late, or with a traceback, are refused when its config is checked."""

from typing import Any

import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import Registry

from medseg_kd.configuration import check_config, set_options, type_errors_explained
from medseg_kd.errors import UserError
from medseg_kd.models import SoftDiceLoss
from medseg_kd.registry import HOOKS, LOOPS, MODELS
from tests.engine.tiny import CONFIG


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("log_level", "INFOO", "log_level is 'INFOO', expected INFO"),
        ("compile", "yes", "compile is 'yes', expected True or False or dict"),
        ("env_cfg.cudnn_benchmrk", True, "env_cfg has no key 'cudnn_benchmrk'; did you mean cudnn_benchmark"),
        (
            "optim_wrapper.clip_grad",
            {"max_nrm": 1},
            "clip_grad: clip_grad_norm_ has no key 'max_nrm'.*max_norm",
        ),
        (
            "optim_wrapper.clip_grad",
            {"type": "Norm", "max_norm": 1},
            "clip_grad.type is 'Norm', expected norm or value",
        ),
        ("val_evaluator.measures", ("Dise",), "val_evaluator.measures: measure 'Dise' is not known: expected ASD"),
        (
            "val_evaluator.measures",
            ("Jaccard",),
            "'mDice', but val_evaluator gives Jaccard_<organ>, mJaccard",
        ),
        ("val_evaluator", dict(type="IoUMetric"), "save_best is 'mDice', but val_evaluator gives aAcc, mAcc, mIoU"),
        (
            "default_hooks.checkpoint.save_best",
            ["mDice", "mIou"],
            "'mIou', but val_evaluator gives Dice_<organ>, mDice",
        ),
        ("default_hooks.checkpoint.save_best", "Dic_aorta", "save_best is 'Dic_aorta'"),
        ("param_scheduler", dict(type="ReduceOnPlateauLR", monitor="mDcie"), "param_scheduler.monitor is 'mDcie'"),
        ("custom_hooks", [dict(type="EarlyStoppingHook", monitor="mDcie")], r"custom_hooks\[0\].monitor is 'mDcie'"),
    ],
)
def test_what_is_refused(key: str, value: Any, message: str) -> None:
    cfg = Config.fromfile(CONFIG)
    part, _, name = key.rpartition(".")
    node = cfg
    for each in filter(None, part.split(".")):
        node = node.setdefault(each, {}) if each not in node else node[each]
    node[name] = value
    with pytest.raises(UserError, match=f"{CONFIG.name}: (.*){message}"):
        check_config(cfg)


class OwnHook(Hook):
    """Of the user: what it monitors is no score."""

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor


IOU = dict(type="IoUMetric", iou_metrics=["mFscore"], prefix="other")


@pytest.mark.parametrize(
    "change",
    [
        {"log_level": "DEBUG", "compile": dict(mode="default")},
        {"optim_wrapper.clip_grad": dict(max_norm=1, norm_type=2)},
        {"default_hooks.checkpoint.save_best": "auto"},
        {"default_hooks.checkpoint.save_best": None},
        {"custom_hooks": [dict(type=OwnHook, monitor="temperature")]},
        {"default_hooks.checkpoint.save_best": "other/mPrecision", "val_evaluator": [IOU]},
        {"default_hooks.checkpoint.save_best": "Dice_aorta", "val_evaluator.per_class": True},
    ],
)
def test_what_passes(change: dict[str, Any]) -> None:
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(change)
    check_config(cfg)


@pytest.mark.parametrize(
    ("registry", "part", "message"),
    [
        (
            HOOKS,
            dict(type="EarlyStoppingHook", monitor="mDice", rule="big"),
            r"EarlyStoppingHook\(monitor='mDice', rule",
        ),
        (HOOKS, dict(type="mmengine.LoggerHook", interval=-1), r"LoggerHook\(interval=-1\) cannot be built: interval"),
        (MODELS, dict(type="mmseg.ResNet", depth=18, norm_cfg=dict(type="BNN")), r"ResNet\(depth=18\) cannot be built"),
        (LOOPS, dict(type="ValLoop", dataloader=1, evaluator=None, runner=None), "ValLoop.* cannot be built"),
    ],
)
def test_a_value_that_a_class_of_others_does_not_take(registry: Registry, part: dict, message: str) -> None:
    with pytest.raises(UserError, match=f"{CONFIG.name}: {message}"), type_errors_explained(Config.fromfile(CONFIG)):
        registry.build(part)


def test_a_package_that_a_part_lacks() -> None:
    with pytest.raises(UserError, match=f"{CONFIG.name}: Please run"), type_errors_explained(Config.fromfile(CONFIG)):
        raise ImportError('Please run "pip install wandb" to install wandb')


class Broken:
    """A class of the user's own with a defect, whose traceback is wanted."""

    def __init__(self) -> None:
        int("two")


def test_a_defect_of_ones_own_class_keeps_its_traceback() -> None:
    with pytest.raises(ValueError, match="invalid literal"), type_errors_explained(Config.fromfile(CONFIG)):
        MODELS.build(dict(type=Broken))


def test_the_message_names_the_option_that_is_wrong() -> None:
    cfg = Config.fromfile(CONFIG)
    right = {"randomness.seed": 1, "train_dataloader.batch_size": 1}
    with pytest.raises(UserError, match="^--cfg-options train_cfg.max_itres: .*did you mean max_iters"):
        set_options(cfg, {**right, "train_cfg.max_itres": 3})
    with pytest.raises(UserError, match="^--cfg-options model.losses.9.type: Index 9 exceeds"):
        set_options(cfg, {**right, "model.losses.9.type": "x"})


@pytest.mark.parametrize("kind", [SoftDiceLoss, "torch.nn.CrossEntropyLoss", "monai.DiceFocalLoss"])
@pytest.mark.parametrize("several", [True, False])
def test_every_loss_may_have_a_name_and_a_weight(kind: Any, several: bool) -> None:
    cfg = Config.fromfile(CONFIG)
    loss = dict(type=kind, loss_weight=2.0, loss_name="loss_mine")
    cfg.model["losses"] = [loss] if several else loss
    check_config(cfg)
    loss["loss_nam"] = "x"
    cfg.model["losses"] = [loss] if several else loss
    with pytest.raises(UserError, match="has no key 'loss_nam'; did you mean loss_name"):
        check_config(cfg)
