"""``tools/dev/benchmark.py``: one subcommand for each thing that is measured."""

import argparse
from collections.abc import Sequence

import benchmark_all
import benchmark_data
import benchmark_dice
import benchmark_distill
import benchmark_evaluate
import benchmark_network
import benchmark_nnunet
import benchmark_predict
import benchmark_train
from medseg_kd.cli import run
from medseg_kd.errors import UserError


def main(argv: Sequence[str] | None = None) -> None:
    """Run a benchmark and print its table.

    Args:
        argv: the arguments; None takes the command line's.

    Raises:
        UserError: an argument does not fit.
    """
    parser = argparse.ArgumentParser(prog="benchmark.py", description="Measure parts of this project.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_evaluate(commands.add_parser("evaluate", help="scoring one case: ours beside MedPy, MONAI and SciPy"))
    benchmark_network.add(commands.add_parser("network", help="a config's network beside another implementation"))
    benchmark_distill.add(commands.add_parser("distill", help="a distillation step over student step and teacher"))
    benchmark_train.add(
        commands.add_parser("train", help="whole training steps beside MMSegmentation's and a bare loop")
    )
    benchmark_nnunet.add(commands.add_parser("nnunet", help="whole training steps beside nnU-Net's trainer"))
    benchmark_data.add(commands.add_parser("data", help="reading and augmenting beside a step of the network"))
    benchmark_dice.add(commands.add_parser("dice", help="what a training reaches, and how soon"))
    benchmark_predict.add(commands.add_parser("predict", help="from a volume to its mask: checkpoint and exports"))
    benchmark_all.add(commands.add_parser("all", help="what a first run on a machine measures, in one file"), main)
    arguments = parser.parse_args(argv)
    arguments.run(arguments)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    known = list(benchmark_evaluate.METHODS)
    parser.add_argument("--shape", type=int, nargs=3, default=[120, 512, 512], metavar=("S", "H", "W"))
    parser.add_argument("--organs", type=int, default=8, help="number of organs (8)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of which the quickest counts; MedPy runs once (3)")
    parser.add_argument("--methods", nargs="+", default=known, choices=known, help="what to run (all)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the synthetic case (0)")
    parser.set_defaults(run=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> None:
    if min(*arguments.shape, arguments.organs, arguments.repeat) < 1 or arguments.organs > 255:
        raise UserError("--shape and --repeat must be at least 1, --organs 1 to 255.")
    print(f"one synthetic case of {'x'.join(map(str, arguments.shape))}, {arguments.organs} organs", flush=True)
    print(
        benchmark_evaluate.compare(
            arguments.shape, arguments.organs, arguments.repeat, arguments.methods, arguments.seed
        )
    )


if __name__ == "__main__":
    run(main)
