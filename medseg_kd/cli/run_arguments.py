"""Arguments that commands have in common."""

import argparse
import sys
from collections.abc import Sequence

from mmengine.config import Config

from medseg_kd.configuration import load_run, parse_options


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what train.py and test.py have in common."""
    parser.add_argument("config", help="config file, such as configs/unet/unet_r18v1c_d8_40k_synapse.py")
    parser.add_argument("--work-dir", metavar="DIR", help="run folder (default: work_dirs/<config name>)")
    parser.add_argument("--data-root", metavar="DIR", help="data folder of training, validation and test")
    parser.add_argument("--fold", type=_fold, metavar="N", help="fold of an nnU-Net data set, or all")
    parser.add_argument(
        "--from-plans",
        nargs="?",
        const="",
        metavar="FILE",
        help="take intensities and slice size from nnU-Net's plans (default: nnUNetPlans.json of the data set)",
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="config keys to change, such as train_cfg.max_iters=2000 randomness.seed=1",
    )
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm", "mpi"), default="none")
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Arguments of a command line in any order: after ``--cfg-options`` what has no ``=`` is none of its values."""
    words: list[str] = []
    options: list[str] = []
    in_options = False
    for word in sys.argv[1:] if argv is None else argv:
        in_options = word == "--cfg-options" or (in_options and not word.startswith("--"))
        is_option = in_options and (word == "--cfg-options" or "=" in word)
        (options if is_option else words).append(word)
    return parser.parse_intermixed_args([*words, *options])


def load_config(args: argparse.Namespace) -> Config:
    """Read the config of a command line and apply its options, see :func:`medseg_kd.configuration.load_run`."""
    options = parse_options(args.cfg_options)
    cfg = load_run(args.config, options, args.data_root, args.work_dir, args.fold, args.from_plans)
    cfg.launcher = args.launcher
    return cfg


def _fold(text: str) -> int | str:
    return int(text) if text.isdecimal() else text
