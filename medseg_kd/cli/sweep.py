"""``tools/sweep.py``: a small grid over config keys, scored on training cases that are held out."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from medseg_kd.cli import Parser
from medseg_kd.cli.experiment_arguments import add_experiment_arguments, resources_of, settings_of
from medseg_kd.errors import UserError
from medseg_kd.experiments.execution import check_cases, execute
from medseg_kd.experiments.sweep import plan_sweep, spread_cases
from medseg_kd.report.markdown import sweep_table


def main(argv: Sequence[str] | None = None) -> None:
    """Train every point of the grid with every seed and print the table of their scores."""
    parser = Parser(
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
    add_experiment_arguments(parser)
    args = parser.parse_args(argv)
    if len(args.key) != len(args.values):
        raise UserError(f"{len(args.key)} --key but {len(args.values)} --values: each key needs its own values")
    resources = resources_of(args)
    points = list(itertools.product(*args.values))
    cases = args.val_cases or spread_cases(args.config, args.hold_out, args.data_root)
    folder = args.work_dir or Path("work_dirs/sweep", Path(args.config).stem)
    plan = plan_sweep(args.config, args.key, points, args.seeds, cases, folder, settings_of(args))
    runs = [run for same in plan.values() for run in same]
    check_cases(runs)
    print(f"{len(runs)} runs in {folder}, scored on {len(cases)} training case(s): {', '.join(cases)}", flush=True)
    execute(runs, resources)
    print("\n" + sweep_table(args.key, plan))
