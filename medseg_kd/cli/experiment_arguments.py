"""Arguments of the commands that make many runs."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from medseg_kd.errors import UserError

if TYPE_CHECKING:
    from medseg_kd.experiments.executors import Resources
    from medseg_kd.experiments.runs import Settings


def add_experiment_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what all runs have in common, and where they are executed."""
    add = parser.add_argument_group("each run").add_argument
    add("--data-root", metavar="DIR", help="data folder of training, validation and test")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="seeds, one run for each (default: 0 1 2)")
    add("--amp", action="store_true", help="train in bf16 or fp16, whichever the device has natively")
    add("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="config keys to change in every run")
    add = parser.add_argument_group("where runs are executed").add_argument
    add("--executor", choices=("local", "slurm"), default="local", help="this machine or Slurm (default: %(default)s)")
    jobs = "runs at a time (default: 1, or as many as the GPUs allow; on Slurm all)"
    add("--jobs", type=int, metavar="N", help=jobs)
    add("--threads", type=int, metavar="N", help="CPU threads of each run (default: the cores, shared by the jobs)")
    add("--gpus", type=int, default=1, metavar="N", help="GPUs of each run, if there are any (default: %(default)s)")
    add("--partition", metavar="NAME", help="partition of Slurm")
    limit = "time limit of a Slurm job, after which a run is resumed (default: 240)"
    add("--time", type=int, metavar="MINUTES", help=limit)


def settings_of(args: argparse.Namespace) -> "Settings":
    """What all runs have in common."""
    from medseg_kd.experiments.runs import Settings

    return Settings(tuple(args.cfg_options), args.data_root, args.amp)


def resources_of(args: argparse.Namespace) -> "Resources":
    """Where and with what the runs are executed."""
    from medseg_kd.experiments.executors import Resources

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
