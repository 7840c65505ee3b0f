"""``tools/sweep.py``: a small grid over config keys, scored on training cases that are held out."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from medseg_kd.cli import Parser
from medseg_kd.cli.experiment_arguments import add_experiment_arguments, resources_of, settings_of
from medseg_kd.cli.run_arguments import add_config
from medseg_kd.errors import UserError


def parser() -> Parser:
    """Its arguments."""
    made = Parser(
        "tools/sweep.py",
        "Trains a config with each value of one or more of its keys and each seed, and scores the runs on training "
        "cases that are held out: the test cases are not looked at. What is finished already is skipped.",
        [
            "configs/distill/cwd/cwd_unet_r50_unet_r18_40k_synapse.py --hold-out 3 \\\n"
            "      --key model.distiller.loss_weight --values 0.3 1 3 --seeds 0 1 2"
        ],
    )
    add_config(made, help="config to train")
    add = made.add_argument_group("the grid").add_argument
    add("--key", action="append", required=True, metavar="KEY", help="config key, such as model.distiller.loss_weight")
    values = "its values; a further --key has its own --values"
    add("--values", nargs="+", action="append", required=True, metavar="VALUE", help=values)
    held_out = made.add_mutually_exclusive_group(required=True)
    held_out.add_argument("--val-cases", nargs="+", metavar="CASE", help="training cases to hold out")
    held_out.add_argument("--hold-out", type=int, metavar="N", help="hold out N training cases, evenly spread by name")
    folder = "folder of the runs (default: work_dirs/sweep/<config name>)"
    made.add_argument("--work-dir", type=Path, metavar="DIR", help=folder)
    add_experiment_arguments(made)
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Train every point of the grid with every seed and print the table of their scores."""
    args = parser().read(argv)
    if len(args.key) != len(args.values):
        raise UserError(f"{len(args.key)} --key but {len(args.values)} --values: each key needs its own values")
    from medseg_kd.experiments.execution import check_cases, execute
    from medseg_kd.experiments.sweep import plan_sweep, spread_cases
    from medseg_kd.report.markdown import sweep_table

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
