"""Does distillation help? Teacher, plain student and distilled students, with several seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from medseg_kd.configuration import load_run, parse_options, write_pair
from medseg_kd.distill.pair_config import find_method
from medseg_kd.errors import UserError
from medseg_kd.experiments.comparison import MEAN, Difference, RunScores, differences, mean_of_runs, read_runs
from medseg_kd.experiments.runs import Run, Settings

TEACHER, PLAIN = "teacher", "plain student"
METRICS = ("dice", "hd95")

Plan = dict[int, dict[str, Run]]
"""For each seed its runs by name, in the order in which they can be executed: ``TEACHER``, ``PLAIN``, the methods."""


@dataclass(frozen=True)
class Comparison:
    """Tested runs, and how they came about: the options of each method, and the command that makes the page."""

    runs: Plan
    options: Mapping[str, Sequence[str]]
    protocol: str
    command: str

    @property
    def names(self) -> list[str]:
        """Teacher, plain student, methods."""
        return list(next(iter(self.runs.values())))

    @property
    def methods(self) -> list[str]:
        """The methods alone."""
        return self.names[2:]

    @cached_property
    def scores(self) -> dict[str, list[RunScores]]:
        """Scores of each name, one entry a seed, all in one order of cases and organs."""
        folders = [runs[name].work_dir for name in self.names for runs in self.runs.values()]
        found = iter(read_runs(folders, self.protocol, METRICS))
        return {name: [next(found) for _ in self.runs] for name in self.names}

    @cached_property
    def means(self) -> dict[str, RunScores]:
        """Scores of each name, mean over the seeds case by case."""
        return {name: mean_of_runs(scores, name) for name, scores in self.scores.items()}

    def over_seeds(self, name: str, metric: str) -> list[float]:
        """Mean of a metric, one entry a seed."""
        return [run.mean(metric) for run in self.scores[name]]

    def to_plain(self, name: str, metric: str) -> Difference:
        """Difference to the plain student, paired by case after the mean over the seeds."""
        return differences(self.means[name], self.means[PLAIN], metric)[MEAN]


def plan_methods(
    teacher: str,
    student: str,
    methods: Sequence[str],
    seeds: Sequence[int],
    folder: Path,
    method_options: Mapping[str, Sequence[str]] | None = None,
    settings: Settings | None = None,
) -> Plan:
    """The runs of a comparison, in ``folder``, into which the configs of the pairs are written.

    The student of a seed learns from the teacher of that seed; ``method_options`` are ``KEY=VALUE`` for the distiller.

    Raises:
        UserError: A config or an option of a run is wrong.
    """
    settings = settings or Settings()
    configs = {}
    for method in methods:
        out = folder / "configs" / f"{find_method(method).stem}.py"
        configs[method] = str(write_pair(method, teacher, student, out, overwrite=True).file)
    plan: Plan = {}
    for seed in seeds:
        seeded = f"randomness.seed={seed}"
        folders = {name: folder / name.replace(" ", "_").lower() / f"seed{seed}" for name in (TEACHER, PLAIN, *methods)}
        taught = Run(teacher, folders[TEACHER], settings, (seeded,))
        plan[seed] = {TEACHER: taught, PLAIN: Run(student, folders[PLAIN], settings, (seeded,))}
        for method, config in configs.items():
            options = [f"model.distiller.{option}" for option in (method_options or {}).get(method, ())]
            own = (f"model.teacher_ckpt={taught.work_dir}", *options, seeded)
            plan[seed][method] = Run(config, folders[method], settings, own, teacher=taught)
        for run in plan[seed].values() if len(plan) == 1 else (taught,):  # seeds differ in nothing else
            load_run(run.config, parse_options(run.options))
    return plan


def finished(plan: Plan, folder: Path) -> Plan:
    """The seeds of a plan all of whose runs are tested; a :class:`UserError` where there is none."""
    if seeds := {seed: runs for seed, runs in plan.items() if all(run.is_tested for run in runs.values())}:
        return seeds
    raise UserError(f"{folder}: no seed is finished yet")
