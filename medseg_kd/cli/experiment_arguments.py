"""Arguments of the commands that make many runs."""

import argparse
from collections.abc import Sequence

from medseg_kd.errors import UserError
from medseg_kd.experiments.executors import Resources
from medseg_kd.experiments.runs import Settings


def add_experiment_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says how runs are executed."""
    parser.add_argument("--data-root", metavar="DIR", help="data folder of training, validation and test")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(0 1 2)")
    parser.add_argument("--executor", choices=("local", "slurm"), default="local", help="where runs go (%(default)s)")
    parser.add_argument("--jobs", type=int, help="runs at a time (1, or as many as the GPUs allow; on Slurm all)")
    parser.add_argument("--threads", type=int, help="CPU threads of each run (the cores, shared by the jobs)")
    parser.add_argument("--gpus", type=int, default=1, help="GPUs of each run, if there are any (%(default)s)")
    parser.add_argument("--partition", metavar="NAME", help="of Slurm")
    parser.add_argument(
        "--time", type=int, metavar="MINUTES", help="limit of Slurm, after which a run is resumed (240)"
    )
    parser.add_argument("--amp", action="store_true", help="train in the device's native precision")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="config keys to change in every run"
    )


def settings_of(args: argparse.Namespace) -> Settings:
    """What all runs have in common."""
    return Settings(tuple(args.cfg_options), args.data_root, args.amp)


def resources_of(args: argparse.Namespace) -> Resources:
    """Where and with what the runs are executed."""
    return Resources(args.executor, args.jobs, args.threads, args.gpus, args.partition, args.time)


def method_options(given: Sequence[Sequence[str]], methods: Sequence[str]) -> dict[str, list[str]]:
    """Options of each method, from ``METHOD KEY=VALUE ...`` as they are given.

    Raises:
        UserError: They belong to no method, or are none.
    """
    found: dict[str, list[str]] = {}
    for method, *options in given:
        if method not in methods:
            raise UserError(f"--method-options {method}: the methods are {', '.join(methods)}")
        if not options or any("=" not in option for option in options):
            raise UserError(f"--method-options {method} {' '.join(options)}: expected KEY=VALUE after the method")
        found.setdefault(method, []).extend(options)
    return found
