"""Registries of the project: children of MMSegmentation's, which are children of MMEngine's.

A type that is not registered here is looked up in MMSegmentation, then in MMEngine, so that
``dict(type='mmseg.ResNetV1c')`` and, with ``default_scope = 'medseg_kd'``, ``dict(type='ResNetV1c')`` both resolve.
``locations`` names the packages that are imported when a type is first asked for.
"""

from mmengine.registry import Registry
from mmseg.registry import DATA_SAMPLERS as MMSEG_DATA_SAMPLERS
from mmseg.registry import DATASETS as MMSEG_DATASETS
from mmseg.registry import HOOKS as MMSEG_HOOKS
from mmseg.registry import LOG_PROCESSORS as MMSEG_LOG_PROCESSORS
from mmseg.registry import METRICS as MMSEG_METRICS
from mmseg.registry import MODELS as MMSEG_MODELS
from mmseg.registry import OPTIM_WRAPPERS as MMSEG_OPTIM_WRAPPERS
from mmseg.registry import RUNNERS as MMSEG_RUNNERS
from mmseg.registry import TRANSFORMS as MMSEG_TRANSFORMS

SCOPE = "medseg_kd"

DATASETS = Registry("dataset", parent=MMSEG_DATASETS, scope=SCOPE, locations=["medseg_kd.datasets"])
TRANSFORMS = Registry("transform", parent=MMSEG_TRANSFORMS, scope=SCOPE, locations=["medseg_kd.datasets"])
DATA_SAMPLERS = Registry("data sampler", parent=MMSEG_DATA_SAMPLERS, scope=SCOPE, locations=["medseg_kd.datasets"])
MODELS = Registry("model", parent=MMSEG_MODELS, scope=SCOPE, locations=["medseg_kd.models", "medseg_kd.distill"])
METRICS = Registry("metric", parent=MMSEG_METRICS, scope=SCOPE, locations=["medseg_kd.evaluation"])
HOOKS = Registry("hook", parent=MMSEG_HOOKS, scope=SCOPE, locations=["medseg_kd.engine"])
LOG_PROCESSORS = Registry("log_processor", parent=MMSEG_LOG_PROCESSORS, scope=SCOPE, locations=["medseg_kd.engine"])
OPTIM_WRAPPERS = Registry("optim_wrapper", parent=MMSEG_OPTIM_WRAPPERS, scope=SCOPE, locations=["medseg_kd.engine"])
RUNNERS = Registry("runner", parent=MMSEG_RUNNERS, scope=SCOPE, locations=["medseg_kd.engine"])
