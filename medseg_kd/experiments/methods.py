"""Does distillation help? Teacher, plain student and distilled students, with several seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from medseg_kd.configuration import write_pair
from medseg_kd.distill.pair_config import find_method
from medseg_kd.errors import UserError
from medseg_kd.experiments.comparison import MEAN, Difference, RunScores, differences, mean_of_runs, read_runs
from medseg_kd.experiments.runs import Run, Settings, is_tested

TEACHER, PLAIN = "teacher", "plain student"
METRICS = ("dice", "hd95")


@dataclass(frozen=True)
class Comparison:
    """Tested runs and how they came about.

    Attributes:
        runs: for each seed its runs by name: ``TEACHER``, ``PLAIN``, then the methods.
        options: options that a method was given.
        protocol: of the scores.
        command: that makes the page.
    """

    runs: Mapping[int, Mapping[str, Run]]
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


def finished(plan: Mapping[int, dict[str, Run]], folder: Path) -> dict[int, dict[str, Run]]:
    """The seeds of a plan all of whose runs are trained and tested.

    Raises:
        UserError: There is none.
    """
    seeds = {seed: runs for seed, runs in plan.items() if all(map(is_tested, runs.values()))}
    if not seeds:
        raise UserError(f"{folder}: no seed is finished yet")
    return seeds


def plan_methods(
    teacher: str,
    student: str,
    methods: Sequence[str],
    seeds: Sequence[int],
    folder: Path,
    method_options: Mapping[str, Sequence[str]] | None = None,
    settings: Settings | None = None,
) -> dict[int, dict[str, Run]]:
    """The runs of a comparison; the configs of the pairs are written into its folder.

    Args:
        teacher: Config of the teacher.
        student: Config of the student.
        methods: Names of methods.
        seeds: Of the runs; the student of a seed learns from the teacher of that seed.
        folder: Of all runs.
        method_options: ``KEY=VALUE`` for the distiller of a method.
        settings: What all runs have in common.

    Returns:
        For each seed its runs by name, in the order in which they can be executed.
    """
    settings = settings or Settings()
    pairs = {}
    for method in methods:
        out = folder / "configs" / f"{find_method(method).stem}.py"
        pairs[method] = str(write_pair(method, teacher, student, out, overwrite=True).file)

    def work_dir(name: str, seed: int) -> Path:
        return folder / name.replace(" ", "_").lower() / f"seed{seed}"

    plan = {}
    for seed in seeds:
        seeded = f"randomness.seed={seed}"
        taught = settings.run(teacher, work_dir(TEACHER, seed), [seeded])
        plan[seed] = {TEACHER: taught, PLAIN: settings.run(student, work_dir(PLAIN, seed), [seeded])}
        for method, pair in pairs.items():
            own = [f"model.distiller.{option}" for option in (method_options or {}).get(method, [])]
            options = [f"model.teacher_ckpt={taught.work_dir}", *own, seeded]
            plan[seed][method] = settings.run(pair, work_dir(method, seed), options, teacher=taught)
    return plan
