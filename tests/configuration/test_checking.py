"""What the classes of a config do not know is told with its place, and nothing else is."""

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import Registry

from medseg_kd.configuration import check_config, read_config, type_errors_explained
from medseg_kd.errors import UserError
from medseg_kd.registry import HOOKS, OPTIM_WRAPPERS
from tests.conftest import ROOT
from tests.engine.tiny import CONFIG


class OwnHook(Hook):
    """Arguments that nothing can know."""

    def __init__(self, **options: Any) -> None:
        self.options = options


CONFIGS = [path for path in sorted((ROOT / "configs").rglob("*.py")) if "_base_" not in path.parts]
EXAMPLE = """
train_cfg = dict(by_epoch=False, max_iters=2)
val_evaluator = dict(type="Evaluator", metrics=[dict(type="VolumeMetric"), dict(type="IoUMetric")])
test_evaluator = [dict(type="VolumeMetric", output_dir="x"), dict(type="IoUMetric", iou_metrics=["mDice"], prefix="v")]
visualizer = dict(type="SegLocalVisualizer", vis_backends=[dict(type="LocalVisBackend")], alpha=0.5)
custom_hooks = [
    dict(type="SegVisualizationHook", draw=True, priority="LOW"),
    dict(type="EMAHook", momentum=0.1),
    dict(type="EMAHook", ema_type="MomentumAnnealingEMA", gamma=100),
    dict(type="EarlyStoppingHook", monitor="mDice"),
    dict(type=OwnHook, anything=1, dataset=dict(a=1), optimizer=dict(lr=1), metrics=["mDice"]),
]
auto_scale_lr = dict(enable=True, base_batch_size=16)
param_scheduler = dict(type="PolyLR", by_epoch=True, convert_to_iter_based=True)
log_processor = dict(by_epoch=False, window_size=10)
optim_wrapper = dict(
    type="AmpOptimWrapper", loss_scale=8, optimizer=dict(type="SGD", lr=0.1), paramwise_cfg=dict(norm_decay_mult=0)
)
train_dataloader = dict(
    batch_size=2,
    sampler=dict(type="InfiniteSampler"),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(type="RepeatDataset", times=2, dataset=dict(type="mmseg.SynapseDataset", img_suffix=".jpg")),
)
my_own = dict(type="Nothing", anything=1)
"""


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_all_configs_pass(path: Path) -> None:
    check_config(read_config(path))


def test_the_parts_that_others_use_pass() -> None:
    cfg = Config.fromfile(CONFIG)
    for key, part in Config.fromstring(EXAMPLE.replace("OwnHook", f"'{__name__}.OwnHook'"), ".py").items():
        cfg[key] = part
    check_config(cfg)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"default_hooks.checkpoint.intervall": 2},
            "default_hooks.checkpoint: CheckpointHook .*'intervall'.* interval",
        ),
        ({"default_hooks.logger.intervl": 2}, "default_hooks.logger: LoggerHook has no key 'intervl'.* interval"),
        ({"custom_hooks": [dict(type="EMAHook", momentun=1)]}, r"custom_hooks\[0\]: EMAHook .*did you mean momentum"),
        ({"custom_hooks": ["EMAHook"]}, r"custom_hooks\[0\] is 'EMAHook', expected dict\(type=...\)"),
        ({"custom_hooks": [dict(type="EmaHook")]}, "type='EmaHook' is not known as hook; did you mean EMAHook"),
        ({"optim_wrapper.optimizer.momentun": 1}, "optim_wrapper.optimizer: SGD .*did you mean momentum"),
        ({"optim_wrapper.optimizer.type": "Addam"}, "type='Addam' is not known as optimizer; did you mean Adam"),
        ({"optim_wrapper.clip_gard": 1}, "optim_wrapper: OptimWrapper .*did you mean clip_grad"),
        ({"param_scheduler": [dict(type="PolyLR", powr=1)]}, r"param_scheduler\[0\]: PolyLR .*did you mean power"),
        ({"param_scheduler": "poly"}, r"param_scheduler is 'poly', expected dict\(type=...\)"),
        ({"train_cfg.val_intervall": 1}, "train_cfg: IterBasedTrainLoop .*did you mean val_interval"),
        ({"train_cfg.type": "EpochBasedTrainLoop"}, "EpochBasedTrainLoop has no .*'max_iters'.*write the part anew"),
        ({"train_cfg": dict(type="IterBasedTrainLoop")}, "train_cfg: IterBasedTrainLoop needs max_iters"),
        ({"train_cfg": dict(type="EpochBasedTrainLoop", max_epochs=1)}, "sampler is a SeededSampler. Set sampler="),
        ({"train_cfg": dict(max_epochs=1)}, "train_cfg is an EpochBasedTrainLoop, but the end of an epoch never comes"),
        ({"train_cfg.by_epoch": False}, "train_cfg: IterBasedTrainLoop has no key 'by_epoch'"),
        ({"val_cfg.fp61": True}, "val_cfg: ValLoop has no key 'fp61'; did you mean fp16"),
        ({"train_dataloader.batchsize": 4}, "train_dataloader has no key 'batchsize'.*batch_size"),
        ({"randomness.sed": 4}, "randomness has no key 'sed'; did you mean seed"),
        ({"auto_scale_lr": dict(enabled=True)}, "auto_scale_lr has no key 'enabled'; did you mean enable"),
        ({"train_dataloader.dataset.splitt": "x"}, "train_dataloader.dataset: SliceDataset .*did you mean split"),
        ({"train_dataloader.sampler.shufle": True}, "train_dataloader.sampler: SeededSampler .*did you mean shuffle"),
        (
            {"val_dataloader.dataset.pipeline": [dict(type="LoadCase"), dict(type="RandomRotFlip", degrees=1)]},
            r"val_dataloader.dataset.pipeline\[1\]: RandomRotFlip has no key 'degrees'; did you mean degree",
        ),
        ({"val_evaluator.mesures": ("Dice",)}, "val_evaluator: VolumeMetric .*did you mean measures"),
        ({"val_evaluator": dict(metric="mDice")}, "a part has no type: val_evaluator"),
        (
            {"test_evaluator": [dict(type="VolumeMetric"), dict(type="IoUMetric", iou_metrics=["mIoU", "mDice"])]},
            "test_evaluator: VolumeMetric and IoUMetric give an mDice. Add prefix=",
        ),
        (
            {"visualizer": dict(type="SegLocalVisualiser")},
            "is not known as visualizer; did you mean SegLocalVisualizer",
        ),
        (
            {"visualizer": dict(type="SegLocalVisualizer", vis_backends=[dict(type="LocalVisBackend", saves=1)])},
            r"visualizer.vis_backends\[0\]: LocalVisBackend has no key 'saves'",
        ),
        ({"log_processor.windowsize": 3}, "log_processor: TrainLogProcessor .*did you mean window_size"),
        ({"model.output_weight": 3}, "model: Segmentor .*did you mean output_weights"),
        ({"model.losses": [dict(type="SoftDiceLoss", smoth=1)]}, r"model.losses\[0\]: SoftDiceLoss has no key"),
        ({"model.network.chanels": 1}, "model.network: UNet has no key 'chanels'"),
        ({"model.network.base_channels": 1}, "MMSegmentation's has: type='mmseg.UNet'"),
        ({"model.network.backbone.depht": 18}, "model.network.backbone: ResNetV1c .*did you mean depth"),
        (
            {"model.data_preprocessor.augmentation.angle": 1},
            "model.data_preprocessor.augmentation: RandomRotateFlip has",
        ),
        (
            {"default_scope": "mmseg", "custom_hooks": [dict(type="IterationSeedHook")]},
            "not known as hook in default_scope='mmseg': write type='medseg_kd.IterationSeedHook'",
        ),
        ({"default_scope": "mmseg", "model.type": "ModuleOutputs"}, "write type='medseg_kd.ModuleOutputs'"),
        ({"trian_cfg": {}}, "trian_cfg is no key of a config, and nothing uses it; did you mean train_cfg"),
        ({"load_form": "x.pth"}, "load_form is no key of a config, and nothing uses it; did you mean load_from"),
    ],
)
def test_what_nothing_knows(change: dict, message: str) -> None:
    cfg = Config.fromfile(CONFIG)
    for key, value in change.items():
        where, _, name = key.rpartition(".")
        part = cfg
        for each in filter(None, where.split(".")):
            part = part.setdefault(each, {}) if each not in part else part[each]
        part[name] = value
    with pytest.raises(UserError, match=f"{CONFIG.name}: (.*){message}"):
        check_config(cfg)


@pytest.mark.parametrize("use", ["{name}", "{name} + 0", "[{name}][0]"])
def test_variables_of_a_config_may_have_any_name(tmp_path: Path, use: str) -> None:
    """Also those of a base, and in the config that a run writes; one that nothing uses is taken for a misspelt key."""
    (tmp_path / "base.py").write_text(f"val_case = 2\nload_form = 3\nx = {use.format(name='load_form')}\n")
    text = "from mmengine.config import read_base\nwith read_base():\n    from .base import *\n"
    file = tmp_path / "mine.py"
    file.write_text(f"{text}randomness = dict(seed={use.format(name='val_case')})\n")
    check_config(read_config(file))
    file.write_text(f"{text}val_cases = []\n")
    with pytest.raises(UserError, match="mine.py: val_case is no key of a config, and nothing uses it"):
        check_config(read_config(file))


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
def test_a_type_that_is_unknown_or_missing_anywhere_in_a_config(registry: Registry, part: dict, message: str) -> None:
    with pytest.raises(UserError, match=message), type_errors_explained(Config.fromfile(CONFIG)):
        registry.build(part)


def test_other_missing_keys_stay_what_they_are() -> None:
    with pytest.raises(KeyError), type_errors_explained(Config({})):
        {}["type"]
