"""The page of ``tools/compare_methods.py``."""

from pathlib import Path

from medseg_kd.evaluation.bootstrap import RESAMPLES
from medseg_kd.evaluation.summary import UNITS
from medseg_kd.experiments.methods import LONGER, PLAIN, TEACHER
from medseg_kd.experiments.results import Results
from medseg_kd.files import write_text
from medseg_kd.report.markdown import mean_and_deviation, table

KEPT_BELOW = "<!-- What stands below this line is kept when the page is made again. -->"


def write_page(results: Results, file: Path) -> None:
    """Write the results as Markdown; what a reader wrote below the mark stays."""
    kept = file.read_text(encoding="utf-8").partition(KEPT_BELOW)[2] if file.is_file() else ""
    write_text(file, f"{page(results)}\n{KEPT_BELOW}\n{kept.removeprefix(chr(10))}")


def page(results: Results) -> str:
    """The page above the mark."""
    means, names, facts = results.means, results.names, results.facts
    titles, seeds = _titles(results), facts["seeds"]
    dice = {name: results.over_seeds(name, "dice") for name in names}
    parts = [
        f"# {facts['title']}",
        _outcome(results),
        f"    {facts['command']}",
        "made this page: it trains and tests what is not finished yet, then writes the tables. The student of a seed "
        "learns from the teacher of that seed; all students have one recipe. Each run is scored once, by its last "
        "checkpoint.",
        "## Scores",
        table(
            ["", *titles.values(), "of the gap (%)", "missed and invented"],
            [
                [
                    name,
                    *(mean_and_deviation(results.over_seeds(name, metric)) for metric in titles),
                    _share(results, name),
                    f"{means[name].missed} and {means[name].false_alarms}",
                ]
                for name in names
            ],
        ),
        f"Mean ± standard deviation (n - 1) over {_seeds(results)} ({', '.join(map(str, seeds))}), protocol "
        f"`{facts['protocol']}`; [evaluation.md](evaluation.md) says what the measures are. Of the gap: how much of "
        "the teacher's lead in Dice over the plain student is closed. Missed and invented: organ-cases of all seeds "
        "together.",
        "Dice (%) of each seed:",
        table(["", *(f"seed {seed}" for seed in seeds)], [[name, *map("{:.2f}".format, dice[name])] for name in names]),
        "Dice (%) of each organ, mean over the seeds:",
        table(
            ["", *means[PLAIN].organs],
            [[name, *map("{:.2f}".format, means[name].organ_means("dice"))] for name in names],
        ),
        "## Differences to the plain student, case by case",
        _differences(results, PLAIN),
        "For each case the mean over the seeds, then the difference, paired over the cases. Interval: bootstrap over "
        f"the cases, {RESAMPLES} samples, percentile method. p: Wilcoxon's signed-rank test, two-sided; those of the "
        f"methods ({len(results.methods)}) are corrected for their number (Holm). Cases are the only thing that "
        "interval and p draw: how much a result moves with the seed is the deviation in the table above.",
    ]
    if LONGER in names:
        parts += [
            "## Differences to the plain student that trained as long as the dearest method",
            _differences(results, LONGER),
        ]
    parts += [
        "## Cost of training",
        table(
            ["", "parameters (M)", "connectors (M)", "s per iteration", "hours"],
            [_cost(name, results) for name in names],
        ),
        "Seconds per iteration: median over a run's log, then over the seeds; hours: of one run, start and end "
        "included. The network that is used afterwards is the same for all students; connectors are trained beside it "
        "and left behind. The teacher's own training is not counted to the students. "
        f"Device: {facts['device']}. Other work on the machine shows in these times; `tools/dev/benchmark.py distill` "
        "measures the ratio of the steps alone.",
        "## Data and recipe",
        "\n".join(f"- {line}" for line in facts["recipe"]),
    ]
    return "\n\n".join(parts) + "\n"


def _titles(results: Results) -> dict[str, str]:
    """Headings of the measures, with their units."""
    (unit,) = results.means[PLAIN].units
    known = {"dice": "Dice (%)", "hd95": f"HD95 ({UNITS.get(unit, unit)})", "nsd": "NSD (%)"}
    return {metric: known[metric] for metric in results.facts["metrics"]}


def _seeds(results: Results) -> str:
    count = len(results.facts["seeds"])
    return f"{count} seed{'s' if count != 1 else ''}"


def _share(results: Results, name: str) -> str:
    """How much of the teacher's lead a student closes, in percent."""
    lead = results.gain(TEACHER)
    return "-" if name in (TEACHER, PLAIN) or lead <= 0 else f"{100 * results.gain(name) / lead:.0f}"


def _outcome(results: Results) -> str:
    """What came out, in a few sentences."""
    outcome = (
        f"In the mean of {_seeds(results)} the teacher's Dice is {results.gain(TEACHER):+.2f} points from the plain "
        "student's."
    )
    if not results.methods:
        return outcome
    gains = {name: results.gain(name) for name in results.methods}
    found = results.to(PLAIN, "dice")
    clear = [name for name in gains if (p := found[name][1]) is not None and p < 0.05]
    above, below = ([name for name in clear if (gains[name] > 0) == wanted] for wanted in (True, False))
    return (
        f"{outcome} {sum(gain > 0 for gain in gains.values())} of {len(gains)} distilled students are above the plain "
        f"one ({', '.join(f'{name} {gain:+.2f}' for name, gain in gains.items())}). Paired over "
        f"{len(results.means[PLAIN].cases)} test cases and corrected for the number of methods, p is below 0.05 for "
        f"{', '.join(above) or 'none of them'}{' and, below it, for ' if below else ''}{', '.join(below)}."
    )


def _differences(results: Results, baseline: str) -> str:
    """A table of what each name has more than a baseline."""
    found = {metric: results.to(baseline, metric) for metric in _titles(results)}
    header = [cell for title in _titles(results).values() for cell in (title, "95% interval", "p")]
    rows = []
    for name in next(iter(found.values())):
        cells = [name]
        for each in found.values():
            difference, p = each[name]
            interval = "{:+.2f} to {:+.2f}".format(*difference.interval) if difference.interval else "n/a"
            cells += [f"{difference.mean:+.2f}", interval, "n/a" if p is None else f"{p:.2g}"]
        rows.append(cells)
    return table(["", *header], rows)


def _cost(name: str, results: Results) -> list[str]:
    cost = results.facts["costs"][name]
    return [
        name,
        f"{cost['parameters'] / 1e6:.2f}",
        f"{cost['connectors'] / 1e6:.2f}" if cost["connectors"] else "-",
        f"{cost['seconds_per_iteration']:.3f}",
        f"{cost['seconds'] / 3600:.2f}",
    ]
