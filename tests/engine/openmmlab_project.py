"""A folder as users of MMSegmentation have one: images, a data set class of their own, and configs in text style."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mmengine.runner
import numpy as np
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.utils import register_all_modules
from PIL import Image

import medseg_kd.configuration.reading  # noqa: F401 (finds what "mmseg::" names)
import tests.torchvision_operators  # noqa: F401 (MMEngine's own runner imports torchvision)

SCALE = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)

_CODE = """
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

@DATASETS.register_module(force=True)
class PolypDataset(BaseSegDataset):
    METAINFO = dict(classes=('background', 'polyp'))

    def __init__(self, img_suffix='.png', seg_map_suffix='.png', **kwargs):
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)
"""

_DATA = """
scale = (48, 32)
loading = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=scale, keep_ratio=False)]
dataset = dict(type='PolypDataset', data_root={root!r}, data_prefix=dict(img_path='img', seg_map_path='ann'))
train_dataloader = dict(
    batch_size=2,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
        dict(type='Resize', scale=scale, keep_ratio=False), dict(type='RandomFlip', prob=0.5),
        dict(type='PhotoMetricDistortion'), dict(type='PackSegInputs')], **dataset))
val_dataloader = dict(
    batch_size=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(pipeline=[*loading, dict(type='LoadAnnotations'), dict(type='PackSegInputs')], **dataset))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU', 'mDice'])
test_evaluator = val_evaluator
"""

_MODEL = """
norm_cfg = dict(type='SyncBN', requires_grad=True)
data_preprocessor = dict(
    type='SegDataPreProcessor', mean={mean}, std={std}, bgr_to_rgb=True, pad_val=0, seg_pad_val=255, size=(32, 48))
model = dict(
    type='EncoderDecoder',
    data_preprocessor=data_preprocessor,
    pretrained=None,
    backbone=dict(type='ResNetV1c', depth=18, base_channels={base}, stem_channels=4, norm_cfg=norm_cfg),
    decode_head=dict(
        type='FCNHead', num_classes=2, in_channels={last}, channels=4, in_index=3, num_convs=1, norm_cfg=norm_cfg,
        align_corners={aligned}, loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False)),
    auxiliary_head=dict(
        type='FCNHead', num_classes=2, in_channels={middle}, channels=4, in_index=2, num_convs=1, norm_cfg=norm_cfg,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4)),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=256, stride=170))
"""

_RUN = """
_base_ = ['./{model}.py', './data.py', 'mmseg::_base_/default_runtime.py', 'mmseg::_base_/schedules/schedule_20k.py']
custom_imports = dict(imports='polyp_dataset')
optimizer = dict(lr=0.01)
optim_wrapper = dict(optimizer=optimizer)
model = dict(test_cfg=dict(mode='whole', _delete_=True))
train_cfg = dict(max_iters=2, val_interval=2)
vis_backends = None
visualizer = dict(vis_backends=vis_backends)
"""

_DISTILL = """
_base_ = ['./data.py', 'mmseg::_base_/schedules/schedule_20k.py', 'mmseg::_base_/default_runtime.py']
custom_imports = dict(imports='polyp_dataset')
teacher_ckpt = {teacher!r}
model = dict(
    _scope_='mmrazor',
    type='SingleTeacherDistill',
    architecture=dict(cfg_path={student_cfg!r}, pretrained=False, decode_head=dict(channels=6)),
    teacher=dict(cfg_path={teacher_cfg!r}, pretrained=False),
    teacher_ckpt=teacher_ckpt,
    teacher_norm_eval=True,
    distiller=dict(
        type='ConfigurableDistiller',
        distill_losses=dict(loss_cwd=dict(type='ChannelWiseDivergence', tau=1, loss_weight=5)),
        student_recorders=dict(logits=dict(type='ModuleOutputs', source='decode_head.conv_seg')),
        teacher_recorders=dict(logits=dict(type='ModuleOutputs', source='decode_head.conv_seg')),
        loss_forward_mappings=dict(
            loss_cwd=dict(
                preds_S=dict(from_student=True, recorder='logits'),
                preds_T=dict(from_student=False, recorder='logits')))))
find_unused_parameters = True
custom_hooks = [dict(type='medseg_kd.TeacherCheckHook')]
train_cfg = dict(max_iters=1, val_interval=1)
val_cfg = dict(_delete_=True, type='mmrazor.SingleTeacherDistillValLoop')
"""


def write_project(folder: Path) -> Path:
    """Write the images, the code and the configs ``teacher.py``, ``student.py`` and ``distill.py``; the folder."""
    rng = np.random.default_rng(0)
    for name in "ab":
        mask = np.zeros((52, 70), np.uint8)
        mask[10:30, 20:50] = 1
        image = rng.integers(0, 120, (52, 70, 3), dtype=np.uint8)
        image[mask == 1, 0] += 100
        for part, content in (("img", image), ("ann", mask)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(folder / part / f"{name}.png")
    (folder / "polyp_dataset.py").write_text(_CODE)
    (folder / "data.py").write_text(_DATA.format(root=str(folder)))
    for name, base in (("teacher", 8), ("student", 4)):
        text = _MODEL.format(**SCALE, base=base, middle=4 * base, last=8 * base, aligned=name == "teacher")
        (folder / f"{name}_model.py").write_text(text)
        (folder / f"{name}.py").write_text(_RUN.format(model=f"{name}_model"))
    paths = {f"{name}_cfg": str(folder / f"{name}.py") for name in ("teacher", "student")}
    (folder / "distill.py").write_text(_DISTILL.format(teacher=str(folder / "stock" / "iter_2.pth"), **paths))
    return folder


@contextmanager
def stock(config: Path, work_dir: Path, **changes: Any) -> Iterator[mmengine.runner.Runner]:
    """MMEngine's own runner of a config; the scope and the hub that it leaves behind are gone afterwards."""
    register_all_modules()
    cfg = Config.fromfile(config)
    cfg.update(work_dir=str(work_dir), randomness=dict(seed=0), experiment_name=work_dir.name)
    cfg.merge_from_dict(changes)
    try:
        yield mmengine.runner.Runner.from_cfg(cfg)
    finally:
        DefaultScope._instance_dict.clear()


def train_stock(config: Path, work_dir: Path) -> Path:
    """Train with MMEngine's own runner and hooks, an EMA among them; the last checkpoint."""
    saving = dict(checkpoint=dict(interval=2, save_best="mIoU"))
    with stock(config, work_dir, custom_hooks=[dict(type="EMAHook", momentum=0.5)], default_hooks=saving) as runner:
        runner.train()
    return work_dir / "iter_2.pth"
