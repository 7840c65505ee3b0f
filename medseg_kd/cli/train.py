"""Train what a config describes."""

import argparse

from medseg_kd.cli.run_arguments import add_run_arguments, load_config
from medseg_kd.configuration import native_precision, resume
from medseg_kd.engine import Runner


def main(argv: list[str] | None = None) -> None:
    """``train.py CONFIG``: train a segmentor, or distil a teacher into a student.

    Raises:
        UserError: The config, the data or a checkpoint is not what it should be.
    """
    parser = argparse.ArgumentParser(prog="train.py", description="Train what a config describes.")
    add_run_arguments(parser)
    parser.add_argument("--resume", action="store_true", help="go on from the run folder's last checkpoint")
    parser.add_argument("--amp", action="store_true", help="train in bf16 or fp16, whichever the device has natively")
    args = parser.parse_args(argv)
    cfg = load_config(args)
    if args.amp:
        cfg.optim_wrapper = native_precision(cfg.optim_wrapper)
    if args.resume and not resume(cfg):
        print(f"{cfg.work_dir} holds no iter_<N>.pth to resume from: training starts at iteration 0")
    Runner.from_cfg(cfg).train()
