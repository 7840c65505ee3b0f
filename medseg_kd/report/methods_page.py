"""The page of ``tools/compare_methods.py``."""

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from mmengine.config import Config

from medseg_kd.configuration import build_model, read_config
from medseg_kd.evaluation.tables import UNITS
from medseg_kd.experiments.comparison import RESAMPLES
from medseg_kd.experiments.methods import METRICS, PLAIN, TEACHER, Comparison
from medseg_kd.experiments.runs import Run
from medseg_kd.files import write_text
from medseg_kd.models.profiling import parameter_count
from medseg_kd.registry import DATASETS
from medseg_kd.report.markdown import mean_and_deviation, table

KEPT_BELOW = "<!-- What stands below this line is kept when the page is made again. -->"


def write_page(comparison: Comparison, file: Path) -> None:
    """Write the page; what a reader wrote below the mark stays."""
    kept = file.read_text(encoding="utf-8").partition(KEPT_BELOW)[2] if file.is_file() else ""
    write_text(file, f"{page(comparison)}\n{KEPT_BELOW}\n{kept.removeprefix(chr(10))}")


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
        dice, hd95 = (comparison.over_seeds(name, metric) for metric in METRICS)
        mean = comparison.means[name]
        return [mean_and_deviation(dice), mean_and_deviation(hd95), f"{mean.missed} and {mean.false_alarms}"]

    return _table(["", "Dice (%)", f"HD95 ({distance})", "missed and invented"], comparison.names, row)


def _difference_table(comparison: Comparison, distance: str) -> str:
    def row(name: str) -> list[str]:
        cells = []
        for metric in METRICS:
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
        taken = [runs[name].facts for runs in comparison.runs.values()]
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
    return table(header, [[name, *row(name)] for name in names])


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' if number != 1 else ''}"
