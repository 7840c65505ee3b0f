"""What MMEngine lacks: exact resume, plain checkpoints, bf16 on any device, readable progress."""

from medseg_kd.engine.amp import BFloat16OptimWrapper, NativeAmpOptimWrapper
from medseg_kd.engine.hooks import CaseProgressHook, IterationSeedHook, TeacherCheckHook
from medseg_kd.engine.log_processor import TrainLogProcessor
from medseg_kd.engine.runner import Runner
from medseg_kd.engine.timing import StageTimesHook

__all__ = [
    "BFloat16OptimWrapper",
    "CaseProgressHook",
    "IterationSeedHook",
    "NativeAmpOptimWrapper",
    "Runner",
    "StageTimesHook",
    "TeacherCheckHook",
    "TrainLogProcessor",
]
