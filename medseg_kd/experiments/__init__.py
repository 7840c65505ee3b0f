"""Many runs and what they show: methods compared, values searched, statistics."""

from medseg_kd.experiments.execution import execute
from medseg_kd.experiments.methods import Comparison, finished, plan_methods
from medseg_kd.experiments.runs import Run, Settings, facts, is_tested, scores
from medseg_kd.experiments.sweep import Point, plan_sweep, spread_cases

__all__ = [
    "Comparison",
    "Point",
    "Run",
    "Settings",
    "execute",
    "facts",
    "finished",
    "is_tested",
    "plan_methods",
    "plan_sweep",
    "scores",
    "spread_cases",
]
