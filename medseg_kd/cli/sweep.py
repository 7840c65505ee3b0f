"""``tools/sweep.py``: a small grid over config keys, scored on training cases that are held out."""

import argparse
import itertools
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from medseg_kd.cli.experiments import (
    NO_VALIDATION,
    Run,
    add_execution_arguments,
    execute,
    mean_and_deviation,
    scores,
)
from medseg_kd.configuration import load_run
from medseg_kd.errors import UserError
from medseg_kd.evaluation.tables import markdown
from medseg_kd.registry import DATASETS

Point = tuple[str, ...]


def main(argv: Sequence[str] | None = None) -> None:
    """Train every point of the grid with every seed and print the table of their scores.

    Args:
        argv: The arguments; None takes the command line's.

    Raises:
        UserError: An argument does not fit, or a run failed.
    """
    parser = argparse.ArgumentParser(
        prog="sweep.py",
        description="Trains a config with each value of one or more of its keys and each seed, and scores the runs on "
        "training cases that are held out: the test cases are not looked at. What is finished already is skipped.",
    )
    parser.add_argument("config", help="config to train")
    parser.add_argument("--key", action="append", required=True, help="config key, such as model.distiller.loss_weight")
    parser.add_argument(
        "--values", nargs="+", action="append", required=True, help="its values; a further --key has its own --values"
    )
    held_out = parser.add_mutually_exclusive_group(required=True)
    held_out.add_argument("--val-cases", nargs="+", metavar="CASE", help="training cases to hold out")
    held_out.add_argument("--hold-out", type=int, metavar="N", help="hold out N training cases, evenly spread by name")
    parser.add_argument("--work-dir", type=Path, metavar="DIR", help="(work_dirs/sweep/<config name>)")
    add_execution_arguments(parser)
    args = parser.parse_args(argv)
    if len(args.key) != len(args.values):
        raise UserError(f"{len(args.key)} --key but {len(args.values)} --values: each key needs its own values")
    points = list(itertools.product(*args.values))
    _check_keys(args, points)
    cases = args.val_cases or _spread(args)
    folder = args.work_dir or Path("work_dirs/sweep", Path(args.config).stem)
    runs = {(point, seed): _run(args, point, seed, cases, folder) for point in points for seed in args.seeds}
    print(f"{len(runs)} runs in {folder}, scored on {len(cases)} training case(s): {', '.join(cases)}", flush=True)
    execute(list(runs.values()), args.jobs, args.threads)
    print("\n" + table(args.key, {point: [runs[point, seed] for seed in args.seeds] for point in points}))


def table(keys: Sequence[str], runs: dict[Point, list[Run]]) -> str:
    """Mean and deviation over the seeds for each point of the grid, as Markdown.

    Args:
        keys: The config keys.
        runs: For each point, one value a key, its tested runs.
    """
    rows = []
    for point, same in runs.items():
        found = [scores(run) for run in same]
        cells = [mean_and_deviation([each[name] for each in found]) for name in ("mDice", "mHD95")]
        rows.append([", ".join(point), *cells, str(len(same))])
    return markdown([", ".join(f"`{key}`" for key in keys), "Dice (%)", "HD95 (voxels)", "seeds"], rows)


def _check_keys(args: Namespace, points: Sequence[Point]) -> None:
    """Refuse keys that the config does not have before anything is trained."""
    known = dict(zip(args.key, points[0], strict=True))
    for option in args.cfg_options:
        key, separator, value = option.partition("=")
        if not separator:
            raise UserError(f"--cfg-options {option}: expected KEY=VALUE")
        known[key] = value
    load_run(args.config, known)


def _spread(args: Namespace) -> list[str]:
    """Training cases from the middle of as many equal parts of the sorted list."""
    dataset = DATASETS.build(load_run(args.config, data_root=args.data_root).train_dataloader.dataset)
    names = sorted(dataset.case_names)
    if not 0 < args.hold_out < len(names):
        raise UserError(
            f"--hold-out {args.hold_out}: {dataset.data_root} has {len(names)} training cases, hold out fewer"
        )
    return [names[(2 * index + 1) * len(names) // (2 * args.hold_out)] for index in range(args.hold_out)]


def _run(args: Namespace, point: Point, seed: int, cases: Sequence[str], folder: Path) -> Run:
    """The run of one point and seed; its test cases are the held-out ones."""
    options = [f"{key}={value}" for key, value in zip(args.key, point, strict=True)]
    leaves = [f"{key.split('.')[-1]}={value.replace('/', '-')}" for key, value in zip(args.key, point, strict=True)]
    names = "[" + ",".join(f"'{case}'" for case in cases) + "]"
    return Run(
        config=args.config,
        work_dir=folder / ",".join(leaves) / f"seed{seed}",
        options=(*args.cfg_options, *options, f"randomness.seed={seed}", f"val_cases={names}", NO_VALIDATION),
        test_options=("test_dataloader.dataset.split=train", f"test_dataloader.dataset.cases={names}"),
        data_root=args.data_root,
        amp=args.amp,
    )
