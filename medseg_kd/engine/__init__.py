"""What MMEngine lacks: exact resume, plain checkpoints, native precision on any device, readable progress."""

import medseg_kd.engine.dispatch  # noqa: F401
from medseg_kd.engine.amp import BFloat16OptimWrapper, NativeAmpOptimWrapper
from medseg_kd.engine.checkpoints import CheckpointHook
from medseg_kd.engine.finite import FiniteLossHook
from medseg_kd.engine.hooks import (
    CaseProgressHook,
    EMAHook,
    IterationSeedHook,
    NormStatisticsHook,
    StageTimesHook,
    TeacherCheckHook,
)
from medseg_kd.engine.log_processor import TrainLogProcessor
from medseg_kd.engine.runner import Runner
from medseg_kd.engine.stopping import StopHook
from medseg_kd.engine.visualization import SegVisualizationHook, WorstSlicesHook

__all__ = [
    "BFloat16OptimWrapper",
    "CaseProgressHook",
    "CheckpointHook",
    "EMAHook",
    "FiniteLossHook",
    "IterationSeedHook",
    "NativeAmpOptimWrapper",
    "NormStatisticsHook",
    "Runner",
    "SegVisualizationHook",
    "StageTimesHook",
    "StopHook",
    "TeacherCheckHook",
    "TrainLogProcessor",
    "WorstSlicesHook",
]
