"""The running statistics of norms, which every process of a distributed run gathers from its own slices."""

from typing import Any

from mmengine.dist import all_reduce_params
from mmengine.hooks import Hook
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from medseg_kd.registry import HOOKS


@HOOKS.register_module()
class NormStatisticsHook(Hook):
    """Before a validation, give all processes the same running statistics; :class:`Runner` adds it to every run."""

    priority = "VERY_HIGH"

    def before_val(self, runner: Any) -> None:
        """Average them."""
        runner.average_statistics()


def average_over_processes(model: nn.Module) -> None:
    """Set means and variances of all norms of a model to their mean over the processes; all of them must call it."""
    norms = [module for module in model.modules() if isinstance(module, _NormBase)]
    statistics = (value for norm in norms for value in (norm.running_mean, norm.running_var) if value is not None)
    all_reduce_params(statistics, op="mean")
