"""What came out of a comparison of methods: kept as two small files, from which its page is made."""

import csv
import io
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config

from medseg_kd.configuration import build_model, load_run, parse_options
from medseg_kd.errors import UserError
from medseg_kd.evaluation.bootstrap import MEAN
from medseg_kd.experiments.comparison import (
    Difference,
    RunScores,
    differences,
    holm,
    mean_of_runs,
    read_rows,
    read_runs,
    scores_file,
    scores_of_rows,
)
from medseg_kd.experiments.methods import LABELS, LONGER, PLAIN, TEACHER, Plan
from medseg_kd.experiments.runs import Run
from medseg_kd.files import write_text
from medseg_kd.models.profiling import parameter_count
from medseg_kd.registry import DATASETS
from medseg_kd.text_files import read_json

METRICS = ("dice", "hd95", "nsd")
"""Which are compared, where they were measured."""
_SCORES, _FACTS = "per_case.csv", "facts.json"
_WORDS = ("protocol", "case", "class", "unit", "status")
_NEEDED = ("title", "command", "seeds", "protocol", "metrics", "costs", "recipe", "device")


@dataclass(frozen=True)
class Results:
    """Scores of the runs of a comparison, and how they came about.

    Attributes:
        scores: {name of runs: one entry a seed}, all of the same cases and organs.
        facts: ``title``, ``command``, ``seeds``, ``protocol``, ``metrics``, ``costs`` ({name: parameters and seconds}),
            ``recipe`` and ``device``.
    """

    scores: Mapping[str, Sequence[RunScores]]
    facts: Mapping[str, Any]

    @property
    def names(self) -> list[str]:
        """Teacher, plain student, methods; last the plain student that trained longer, if there is one."""
        return list(self.scores)

    @property
    def methods(self) -> list[str]:
        """The methods alone."""
        return [name for name in self.names if name not in (TEACHER, PLAIN, LONGER)]

    @cached_property
    def means(self) -> dict[str, RunScores]:
        """Scores of each name, mean over the seeds case by case."""
        return {name: mean_of_runs(scores, name) for name, scores in self.scores.items()}

    def over_seeds(self, name: str, metric: str) -> list[float]:
        """Mean of a metric, one entry a seed."""
        return [run.mean(metric) for run in self.scores[name]]

    def gain(self, name: str, metric: str = "dice") -> float:
        """Mean over the seeds, minus that of the plain student."""
        ours, plain = (statistics.fmean(self.over_seeds(each, metric)) for each in (name, PLAIN))
        return ours - plain

    def to(self, baseline: str, metric: str) -> dict[str, tuple[Difference, float | None]]:
        """For each name its difference to a baseline, paired by case after the mean over the seeds, and p.

        P values of the methods are corrected for their number, see :func:`holm`.
        """
        found = {
            name: differences(self.means[name], self.means[baseline], metric)[MEAN]
            for name in self.names
            if name != baseline
        }
        corrected = holm({name: found[name].p for name in self.methods})
        return {name: (each, corrected.get(name, each.p)) for name, each in found.items()}


def keep(
    plan: Plan, options: Mapping[str, Sequence[str]], protocol: str, said: Mapping[str, str], folder: Path
) -> None:
    """Write the scores of tested runs, case by case, and what the page says beside them.

    ``said`` are the ``title`` of the page and the ``command`` that makes it.

    Raises:
        UserError: The runs were not tested alike, see :func:`read_runs`.
    """
    names = list(next(iter(plan.values())))
    runs = [(name, seed, each[name]) for name in names for seed, each in plan.items()]
    columns, _ = read_rows(scores_file(runs[0][2].work_dir))
    metrics = [metric for metric in METRICS if metric in columns]
    read_runs([run.work_dir for _, _, run in runs], protocol, metrics)
    written = io.StringIO(newline="")
    keys = [each for each in columns if each != "protocol"]
    writer = csv.DictWriter(written, ["run", "seed", *keys], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for name, seed, run in runs:
        _, rows = read_rows(scores_file(run.work_dir))
        writer.writerows({"run": name, "seed": seed, **_short(row)} for row in rows if row["protocol"] == protocol)
    facts = dict(
        seeds=list(plan),
        protocol=protocol,
        **said,
        metrics=metrics,
        costs={name: _cost([each[name] for each in plan.values()]) for name in names},
        recipe=_recipe(plan, options),
        device=_device(plan),
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / _SCORES, written.getvalue())
    write_text(folder / _FACTS, json.dumps(facts, indent=2) + "\n")


def _short(row: Mapping[str, str]) -> dict[str, str]:
    """The same with six digits of each score: these files go into repositories."""
    return {key: value if key in _WORDS else f"{float(value):.6g}" for key, value in row.items()}


def kept(folder: Path) -> Results:
    """What :func:`keep` wrote.

    Raises:
        UserError: It is not there, or not whole.
    """
    facts, file = read_json(folder / _FACTS, dict), folder / _SCORES
    if lacking := [each for each in _NEEDED if each not in facts]:
        raise UserError(f"{folder / _FACTS} lacks {', '.join(lacking)}: write it again with compare_methods.py")
    columns, rows = read_rows(file)
    if lacking := [each for each in ("run", "seed", *facts["metrics"]) if each not in columns]:
        raise UserError(f"{file} lacks the columns {', '.join(lacking)}: write it again with compare_methods.py")
    scores: dict[str, list[RunScores]] = {}
    for name in facts["costs"]:
        for seed in facts["seeds"]:
            own = [row for row in rows if (row["run"], row["seed"]) == (name, str(seed))]
            where = f"{file}, {name}, seed {seed}"
            if not own:
                raise UserError(f"{where}: no line. Write it again with compare_methods.py")
            scores.setdefault(name, []).append(scores_of_rows(own, facts["metrics"], name, file, where))
    return Results(scores, facts)


def _cost(runs: Sequence[Run]) -> dict[str, float]:
    """What the runs of all seeds took, in the median, and the size of what they trained."""
    model = build_model(load_run(runs[0].config, parse_options(runs[0].options)))
    student, distiller = getattr(model, "architecture", model), getattr(model, "distiller", None)
    taken = [run.facts for run in runs]
    return {
        "parameters": parameter_count(student),
        "connectors": 0 if distiller is None else parameter_count(distiller),
        **{key: statistics.median(each[key] for each in taken) for key in ("seconds_per_iteration", "seconds")},
    }


def _recipe(plan: Plan, options: Mapping[str, Sequence[str]]) -> list[str]:
    """Data, schedules, options, in lines of Markdown."""
    runs = next(iter(plan.values()))
    # The configs that the runs were trained with, options included.
    trained = {
        name: Config.fromfile(sorted(run.work_dir.glob("*/vis_data/config.py"))[0])
        for name, run in runs.items()
        if name in (TEACHER, PLAIN, LABELS, LONGER)
    }
    plain, with_labels = trained[PLAIN], trained.pop(LABELS, None)
    dataset, tested = (DATASETS.build(each.dataset) for each in (plain.train_dataloader, plain.test_dataloader))
    note = " **This is synthetic data: the numbers say nothing about patients.**" if "note" in dataset.metainfo else ""
    lines = [
        f"data: `{dataset.data_root}`, {len(dataset.case_names)} training cases with {len(dataset)} slices, "
        f"{len(tested)} test cases.{note}"
    ]
    for name, cfg in trained.items():
        optimizer = cfg.optim_wrapper.optimizer
        kind = str(getattr(optimizer.type, "__name__", optimizer.type)).rpartition(".")[2]
        other = cfg.train_dataloader.dataset != plain.train_dataloader.dataset
        cases = f", {len(DATASETS.build(cfg.train_dataloader.dataset).case_names)} training cases" if other else ""
        lines.append(
            f"{name}: `{runs[name].config}`{cases}, {cfg.train_cfg.max_iters} iterations of "
            f"{cfg.train_dataloader.batch_size} slices, {kind}, learning rate {optimizer.lr:g}"
        )
    if with_labels is not None:
        taught = DATASETS.build(with_labels.train_dataloader.dataset)
        lines.append(
            f"distilled students: {len(taught.unlabelled)} further training cases without a label, which the teacher "
            f"gives them; {len(taught)} slices in all"
        )
    given = [f"{name} {' '.join(f'`{option}`' for option in each)}" for name, each in options.items()]
    lines.append(f"options of the methods: {'; '.join(given) or 'none'}; where none is said, the defaults")
    return lines


def _device(plan: Plan) -> str:
    """What the plain student's first run was trained on."""
    run = next(iter(plan.values()))[PLAIN]
    text = sorted(run.work_dir.glob("*/environment.txt"))[0].read_text(encoding="utf-8")
    known = dict(line.split(": ", 1) for line in text.splitlines())
    return f"{known['device']}, PyTorch {known['torch']}"
