"""Arguments that commands have in common."""

import argparse
import gc
from glob import escape, glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg_kd.configs_dir import configs_dir, find_config

if TYPE_CHECKING:
    from mmengine.config import Config


def config_path(text: str) -> str:
    """The path of a config as it is given; a UserError where there is none, before anything is imported for it."""
    find_config(text)
    return text


def add_config(parser: argparse._ActionsContainer, name: str = "config", **options: Any) -> None:
    """Add an argument that is a config; a shell completes it from here and from the packaged ones."""
    options = {"metavar": "CONFIG", "help": "such as configs/unet/unet_r18v1c_d8_40k_synapse.py", **options}
    parser.add_argument(name, type=config_path, **options).completer = config_names  # type: ignore[attr-defined]


def config_names(prefix: str, **_: Any) -> list[str]:
    """Configs and folders of them whose paths begin so, as argcomplete asks for them."""
    found = set()
    for folder, first in ((Path(), None), (configs_dir().parent, "configs")):
        for name in glob(f"{escape(prefix)}*", root_dir=folder):
            if first in (None, Path(name).parts[0]):
                found |= {f"{name}/"} if Path(folder, name).is_dir() else {name} if name.endswith(".py") else set()
    return sorted(found)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what train.py and test.py have in common."""
    add_config(parser)
    change = parser.add_argument_group("what changes the config").add_argument
    change("--data-root", metavar="DIR", help="data folder of training, validation and test")
    change("--work-dir", metavar="DIR", help="run folder: checkpoints, log, scores (default: work_dirs/<config name>)")
    change(
        "--cfg-options",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="keys to change, such as train_cfg.max_iters=2000 randomness.seed=1",
    )
    change("--fold", type=_fold, metavar="N", help="fold of a data set of nnU-Net, or all")
    change(
        "--from-plans",
        nargs="?",
        const="",
        metavar="FILE",
        help="take intensities and slice size from nnU-Net's plans (default: nnUNetPlans.json of the data set)",
    )
    launcher = "who starts the processes of several GPUs (default: one process)"
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm", "mpi"), default="none", help=launcher)
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)


def load_config(args: argparse.Namespace) -> "Config":
    """Read the config of a command line and apply its options, see :func:`medseg_kd.configuration.load_run`."""
    from medseg_kd.configuration import load_run, parse_options

    gc.freeze()  # what is imported: MMEngine looks through all objects again for each data set that it builds
    options = parse_options(args.cfg_options)
    cfg = load_run(args.config, options, args.data_root, args.work_dir, args.fold, args.from_plans)
    cfg.launcher = args.launcher
    return cfg


def _fold(text: str) -> int | str:
    return int(text) if text.isdecimal() else text
