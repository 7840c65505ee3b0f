from importlib import import_module

from mmengine.hooks import DistSamplerSeedHook, IterTimerHook, LoggerHook, ParamSchedulerHook

from medseg_kd.engine import (
    CaseProgressHook,
    CheckpointHook,
    IterationSeedHook,
    Runner,
    StageTimesHook,
    TeacherCheckHook,
    TrainLogProcessor,
)

# Classes are imported when they are built; this now, so that MMEngine's Runner.from_cfg knows the runner_type below.
import_module("medseg_kd.engine")
default_scope = "medseg_kd"
runner_type = Runner
randomness = dict(seed=0, deterministic=False)
env_cfg = dict(
    cudnn_benchmark=True,
    tf32=True,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
sync_bn = "torch"
# docs/speed.md: True, False, or "auto" for where it pays.
cuda_graph = "auto"
channels_last = "auto"
default_hooks = dict(
    iteration_seed=dict(type=IterationSeedHook),
    timer=dict(type=IterTimerHook),
    logger=dict(type=LoggerHook, interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type=ParamSchedulerHook),
    checkpoint=dict(
        type=CheckpointHook, by_epoch=False, interval=4000, max_keep_ckpts=1, save_best="mDice", rule="greater"
    ),
    sampler_seed=dict(type=DistSamplerSeedHook),
    progress=dict(type=CaseProgressHook),
    teacher_check=dict(type=TeacherCheckHook),
    stage_times=dict(type=StageTimesHook),
)
log_processor = dict(type=TrainLogProcessor)
log_level = "INFO"
load_from = None
resume = False
