"""The page of ``tools/compare_methods.py``."""

import statistics
from pathlib import Path

from mmengine.config import Config

from medseg_kd.configuration import build_model, read_config
from medseg_kd.evaluation.bootstrap import RESAMPLES
from medseg_kd.evaluation.summary import UNITS
from medseg_kd.experiments.methods import METRICS, PLAIN, TEACHER, Comparison
from medseg_kd.experiments.runs import Run
from medseg_kd.files import write_text
from medseg_kd.models.profiling import parameter_count
from medseg_kd.registry import DATASETS
from medseg_kd.report.markdown import mean_and_deviation, table

KEPT_BELOW = "<!-- What stands below this line is kept when the page is made again. -->"


def write_page(comparison: Comparison, file: Path) -> None:
    """Write the results as Markdown; what a reader wrote below the mark stays."""
    kept = file.read_text(encoding="utf-8").partition(KEPT_BELOW)[2] if file.is_file() else ""
    write_text(file, f"{_page(comparison)}\n{KEPT_BELOW}\n{kept.removeprefix(chr(10))}")


def _page(comparison: Comparison) -> str:
    runs, means, names = comparison.runs, comparison.means, comparison.names
    dice = {name: comparison.over_seeds(name, "dice") for name in names}
    distances = {name: mean_and_deviation(comparison.over_seeds(name, "hd95")) for name in names}
    absent = {name: f"{means[name].missed} and {means[name].false_alarms}" for name in names}
    (unit,) = means[PLAIN].units
    hd95 = f"HD95 ({UNITS.get(unit, unit)})"
    seeds = f"{len(runs)} seed{'s' if len(runs) != 1 else ''}"
    parts = [
        "# Does distillation help?",
        _outcome(comparison, {name: statistics.fmean(values) for name, values in dice.items()}, seeds),
        f"    {comparison.command}",
        "made this page: it trains and tests what is not finished yet, then writes the tables. The student of a seed "
        "learns from the teacher of that seed; all students have one recipe. Each run is scored once, by its last "
        "checkpoint.",
        "## Scores",
        table(
            ["", "Dice (%)", hd95, "missed and invented"],
            [[name, mean_and_deviation(dice[name]), distances[name], absent[name]] for name in names],
        ),
        f"Mean ± standard deviation (n - 1) over {seeds} ({', '.join(map(str, runs))}), protocol "
        f"`{comparison.protocol}`; [evaluation.md](evaluation.md) says what the measures are. "
        "Missed and invented: organ-cases of all seeds together.",
        "Dice (%) of each seed:",
        table(["", *(f"seed {seed}" for seed in runs)], [[name, *map("{:.2f}".format, dice[name])] for name in names]),
        "Dice (%) of each organ, mean over the seeds:",
        table(
            ["", *means[PLAIN].organs],
            [[name, *map("{:.2f}".format, means[name].organ_means("dice"))] for name in names],
        ),
        "## Differences to the plain student, case by case",
        table(
            ["", "Dice (points)", "95% interval", "p", hd95, "95% interval", "p"],
            [_differences(comparison, name) for name in (TEACHER, *comparison.methods)],
        ),
        "For each case the mean over the seeds, then the difference, paired over the cases. Interval: bootstrap over "
        f"the cases, {RESAMPLES} samples, percentile method. p: Wilcoxon's signed-rank test, two-sided, not corrected "
        "for the number of tests. Cases are the only thing that interval and p draw: how much a result moves with the "
        "seed is the deviation in the table above.",
        "## Cost of training",
        table(
            ["", "parameters (M)", "connectors (M)", "s per iteration", "hours"],
            [_cost([each[name] for each in runs.values()], name) for name in names],
        ),
        "Seconds per iteration: median over a run's log, then over the seeds; hours: of one run, start and end "
        "included. The network that is used afterwards is the same for all students; connectors are trained beside it "
        "and left behind. The teacher's own training is not counted to the students. "
        f"{_machine(comparison)} Other work on the machine shows in these times; `tools/dev/benchmark.py distill` "
        "measures the ratio of the steps alone.",
        "## Data and recipe",
        _recipe(comparison),
    ]
    return "\n\n".join(parts) + "\n"


def _outcome(comparison: Comparison, dice: dict[str, float], seeds: str) -> str:
    """What came out, in a few sentences."""
    gains = {name: value - dice[PLAIN] for name, value in dice.items()}
    outcome = f"In the mean of {seeds} the teacher's Dice is {gains[TEACHER]:+.2f} points from the plain student's."
    if not comparison.methods:
        return outcome
    above = [name for name in comparison.methods if gains[name] > 0]
    clear = [name for name in comparison.methods if (comparison.to_plain(name, "dice").p or 1) < 0.05]
    return (
        f"{outcome} {len(above)} of {len(comparison.methods)} distilled students are above the plain one "
        f"({', '.join(f'{name} {gains[name]:+.2f}' for name in comparison.methods)}). Paired over "
        f"{len(comparison.means[PLAIN].cases)} test cases, p is below 0.05 for {', '.join(clear) or 'none of them'}."
    )


def _differences(comparison: Comparison, name: str) -> list[str]:
    cells = [name]
    for metric in METRICS:
        found = comparison.to_plain(name, metric)
        interval = "{:+.2f} to {:+.2f}".format(*found.interval) if found.interval else "n/a"
        cells += [f"{found.mean:+.2f}", interval, "n/a" if found.p is None else f"{found.p:.2g}"]
    return cells


def _cost(runs: list[Run], name: str) -> list[str]:
    """What the runs of all seeds took, in the median, and the size of what they trained."""
    model = build_model(read_config(runs[0].config))
    student, distiller = getattr(model, "architecture", model), getattr(model, "distiller", None)
    beside = parameter_count(distiller) if distiller is not None else 0
    taken = [run.facts for run in runs]
    return [
        name,
        f"{parameter_count(student) / 1e6:.2f}",
        f"{beside / 1e6:.2f}" if beside else "-",
        f"{statistics.median(each['seconds_per_iteration'] for each in taken):.3f}",
        f"{statistics.median(each['seconds'] for each in taken) / 3600:.2f}",
    ]


def _recipe(comparison: Comparison) -> str:
    """Data, schedules, options."""
    runs = next(iter(comparison.runs.values()))
    # The configs that the runs were trained with, options included.
    trained = {
        name: Config.fromfile(sorted(runs[name].work_dir.glob("*/vis_data/config.py"))[0]) for name in (TEACHER, PLAIN)
    }
    dataset = DATASETS.build(trained[PLAIN].train_dataloader.dataset)
    note = " **This is synthetic data: the numbers say nothing about patients.**" if "note" in dataset.metainfo else ""
    lines = [
        f"- data: `{dataset.data_root}`, {len(dataset.case_names)} training cases with {len(dataset)} slices, "
        f"{len(comparison.means[PLAIN].cases)} test cases, {len(comparison.means[PLAIN].organs)} organs.{note}"
    ]
    for name, cfg in trained.items():
        optimizer = cfg.optim_wrapper.optimizer
        kind = str(getattr(optimizer.type, "__name__", optimizer.type)).rpartition(".")[2]
        lines.append(
            f"- {name}: `{runs[name].config}`, {cfg.train_cfg.max_iters} iterations of "
            f"{cfg.train_dataloader.batch_size} slices, {kind}, learning rate {optimizer.lr:g}"
        )
    given = [f"{name} {' '.join(f'`{option}`' for option in options)}" for name, options in comparison.options.items()]
    lines.append(f"- options of the methods: {'; '.join(given) or 'none'}; where none is said, the defaults")
    return "\n".join(lines)


def _machine(comparison: Comparison) -> str:
    """What the plain student's first run was trained on."""
    run = next(iter(comparison.runs.values()))[PLAIN]
    text = sorted(run.work_dir.glob("*/environment.txt"))[0].read_text(encoding="utf-8")
    known = dict(line.split(": ", 1) for line in text.splitlines())
    return f"Device: {known['device']}, PyTorch {known['torch']}."
