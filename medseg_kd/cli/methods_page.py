"""The page of ``tools/compare_methods.py``."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from mmengine.config import Config

from medseg_kd.cli.experiments import Run, facts, mean_and_deviation
from medseg_kd.configuration import build_model, read_config
from medseg_kd.evaluation.comparison import MEAN, RESAMPLES, Difference, RunScores, differences, mean_of_runs, read_runs
from medseg_kd.evaluation.tables import UNITS, markdown
from medseg_kd.models.profiling import parameter_count
from medseg_kd.registry import DATASETS

TEACHER, PLAIN = "teacher", "plain student"
_METRICS = ("dice", "hd95")


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
        found = iter(read_runs(folders, self.protocol, _METRICS))
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


def page(comparison: Comparison) -> str:
    """The results as Markdown."""
    (unit,) = comparison.means[PLAIN].units
    distance = UNITS.get(unit, unit)
    parts = [
        "# Does distillation help?",
        _outcome(comparison),
        f"    {comparison.command}",
        "made this page: it trains and tests what is not finished yet, then writes the tables. The student of a seed "
        "learns from the teacher of that seed; all students have one recipe. Each run is scored once, by its last "
        "checkpoint.",
        "## Scores",
        _scores_table(comparison, distance),
        f"Mean ± standard deviation (n - 1) over {_count(len(comparison.runs), 'seed')} "
        f"({', '.join(map(str, comparison.runs))}), protocol `{comparison.protocol}`; "
        "[evaluation.md](evaluation.md) says what the measures are. "
        "Missed and invented: organ-cases of all seeds together.",
        "Dice (%) of each seed:",
        _table(
            ["", *(f"seed {seed}" for seed in comparison.runs)],
            comparison.names,
            lambda name: [f"{value:.2f}" for value in comparison.over_seeds(name, "dice")],
        ),
        "Dice (%) of each organ, mean over the seeds:",
        _table(
            ["", *comparison.means[PLAIN].organs],
            comparison.names,
            lambda name: [f"{value:.2f}" for value in comparison.means[name].organ_means("dice")],
        ),
        "## Differences to the plain student, case by case",
        _difference_table(comparison, distance),
        "For each case the mean over the seeds, then the difference, paired over the cases. Interval: bootstrap over "
        f"the cases, {RESAMPLES} samples, percentile method. p: Wilcoxon's signed-rank test, two-sided, not corrected "
        "for the number of tests. Cases are the only thing that interval and p draw: how much a result moves with the "
        "seed is the deviation in the table above.",
        "## Cost of training",
        _cost_table(comparison),
        "Seconds per iteration: median over a run's log, then over the seeds; hours: of one run, start and end "
        "included. The network that is used afterwards is the same for all students; connectors are trained beside it "
        "and left behind. The teacher's own training is not counted to the students. "
        f"{_machine(comparison)} Other work on the machine shows in these times; `tools/dev/benchmark.py distill` "
        "measures the ratio of the steps alone.",
        "## Data and recipe",
        _recipe(comparison),
    ]
    return "\n\n".join(parts) + "\n"


def _outcome(comparison: Comparison) -> str:
    """What came out, in a few sentences."""
    plain = statistics.fmean(comparison.over_seeds(PLAIN, "dice"))
    gains = {name: statistics.fmean(comparison.over_seeds(name, "dice")) - plain for name in comparison.names}
    outcome = (
        f"In the mean of {_count(len(comparison.runs), 'seed')} the teacher's Dice is {gains[TEACHER]:+.2f} points "
        "from the plain student's."
    )
    if not comparison.methods:
        return outcome
    above = [name for name in comparison.methods if gains[name] > 0]
    clear = [name for name in comparison.methods if (comparison.to_plain(name, "dice").p or 1) < 0.05]
    return (
        f"{outcome} {len(above)} of {len(comparison.methods)} distilled students are above the plain one "
        f"({', '.join(f'{name} {gains[name]:+.2f}' for name in comparison.methods)}). Paired over "
        f"{len(comparison.means[PLAIN].cases)} test cases, p is below 0.05 for {', '.join(clear) or 'none of them'}."
    )


def _scores_table(comparison: Comparison, distance: str) -> str:
    def row(name: str) -> list[str]:
        dice, hd95 = (comparison.over_seeds(name, metric) for metric in _METRICS)
        mean = comparison.means[name]
        return [mean_and_deviation(dice), mean_and_deviation(hd95), f"{mean.missed} and {mean.false_alarms}"]

    return _table(["", "Dice (%)", f"HD95 ({distance})", "missed and invented"], comparison.names, row)


def _difference_table(comparison: Comparison, distance: str) -> str:
    def row(name: str) -> list[str]:
        cells = []
        for metric in _METRICS:
            found = comparison.to_plain(name, metric)
            interval = "{:+.2f} to {:+.2f}".format(*found.interval) if found.interval else "n/a"
            cells += [f"{found.mean:+.2f}", interval, "n/a" if found.p is None else f"{found.p:.2g}"]
        return cells

    header = ["", "Dice (points)", "95% interval", "p", f"HD95 ({distance})", "95% interval", "p"]
    return _table(header, [TEACHER, *comparison.methods], row)


def _cost_table(comparison: Comparison) -> str:
    configs = {name: read_config(run.config) for name, run in next(iter(comparison.runs.values())).items()}

    def row(name: str) -> list[str]:
        model = build_model(configs[name])
        student, distiller = getattr(model, "architecture", model), getattr(model, "distiller", None)
        beside = parameter_count(distiller) if distiller is not None else 0
        taken = [facts(runs[name]) for runs in comparison.runs.values()]
        return [
            f"{parameter_count(student) / 1e6:.2f}",
            f"{beside / 1e6:.2f}" if beside else "-",
            f"{statistics.median(each['seconds_per_iteration'] for each in taken):.3f}",
            f"{statistics.median(each['seconds'] for each in taken) / 3600:.2f}",
        ]

    header = ["", "parameters (M)", "connectors (M)", "s per iteration", "hours"]
    return _table(header, comparison.names, row)


def _recipe(comparison: Comparison) -> str:
    """Data, schedules, options."""
    runs = next(iter(comparison.runs.values()))
    lines = []
    for name in (TEACHER, PLAIN):
        cfg = _trained(runs[name])
        optimizer = cfg.optim_wrapper.optimizer
        kind = str(getattr(optimizer.type, "__name__", optimizer.type)).rpartition(".")[2]
        lines.append(
            f"- {name}: `{runs[name].config}`, {cfg.train_cfg.max_iters} iterations of "
            f"{cfg.train_dataloader.batch_size} slices, {kind}, learning rate {optimizer.lr:g}"
        )
    dataset = DATASETS.build(_trained(runs[PLAIN]).train_dataloader.dataset)
    synthetic = "note" in dataset.metainfo
    note = " **This is synthetic data: the numbers say nothing about patients.**" if synthetic else ""
    lines.insert(
        0,
        f"- data: `{dataset.data_root}`, {len(dataset.case_names)} training cases with {len(dataset)} slices, "
        f"{len(comparison.means[PLAIN].cases)} test cases, {len(comparison.means[PLAIN].organs)} organs.{note}",
    )
    given = [f"{name} {' '.join(f'`{option}`' for option in options)}" for name, options in comparison.options.items()]
    lines.append(f"- options of the methods: {'; '.join(given) or 'none'}; where none is said, the defaults")
    return "\n".join(lines)


def _trained(run: Run) -> Config:
    """The config that a run was trained with, options included."""
    return Config.fromfile(sorted(run.work_dir.glob("*/vis_data/config.py"))[0])


def _machine(comparison: Comparison) -> str:
    """What the plain student's first run was trained on."""
    run = next(iter(comparison.runs.values()))[PLAIN]
    text = sorted(run.work_dir.glob("*/environment.txt"))[0].read_text(encoding="utf-8")
    known = dict(line.split(": ", 1) for line in text.splitlines())
    return f"Device: {known['device']}, PyTorch {known['torch']}."


def _table(header: Sequence[str], names: Sequence[str], row: Callable[[str], Sequence[str]]) -> str:
    return markdown(header, [[name, *row(name)] for name in names])


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' if number != 1 else ''}"
