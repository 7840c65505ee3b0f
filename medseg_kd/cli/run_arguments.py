"""Arguments that train.py and test.py have in common."""

import argparse

from mmengine.config import Config, DictAction

from medseg_kd.configuration import load_run


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what train.py and test.py have in common."""
    parser.add_argument("config", help="config file, such as configs/unet/unet_r18v1c_d8_40k_synapse.py")
    parser.add_argument("--work-dir", metavar="DIR", help="run folder (default: work_dirs/<config name>)")
    parser.add_argument("--data-root", metavar="DIR", help="data folder of training, validation and test")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help="config keys to change, such as train_cfg.max_iters=2000 randomness.seed=1",
    )
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm", "mpi"), default="none")
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)


def load_config(args: argparse.Namespace) -> Config:
    """Read the config of a command line and apply its options, see :func:`medseg_kd.configuration.load_run`."""
    cfg = load_run(args.config, args.cfg_options, args.data_root, args.work_dir)
    cfg.launcher = args.launcher
    return cfg
