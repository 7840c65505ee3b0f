"""Train what a config describes."""

import argparse

from mmengine.config import Config

from medseg_kd.cli.config import add_shared_arguments, load_config, type_errors_explained
from medseg_kd.distill.teacher import find_weights
from medseg_kd.engine import NativeAmpOptimWrapper, Runner
from medseg_kd.models.checkpoint import last_checkpoint


def main(argv: list[str] | None = None) -> None:
    """``train.py CONFIG``: train a segmentor, or distil a teacher into a student.

    Raises:
        UserError: The config, the data or a checkpoint is not what it should be.
    """
    parser = argparse.ArgumentParser(prog="train.py", description="Train what a config describes.")
    add_shared_arguments(parser)
    parser.add_argument("--resume", action="store_true", help="go on from the run folder's last checkpoint")
    parser.add_argument("--amp", action="store_true", help="train in bf16 or fp16, whichever the device has natively")
    args = parser.parse_args(argv)
    cfg = load_config(args)
    if args.amp:
        cfg.optim_wrapper.type = NativeAmpOptimWrapper
    for entry, key in ((cfg.model, "teacher_ckpt"), *((each, "ckpt") for each in cfg.model.get("teachers", ()))):
        if entry.get(key):
            entry[key] = find_weights(entry[key])
    if args.resume:
        _resume(cfg)
    with type_errors_explained(cfg):
        Runner.from_cfg(cfg).train()


def _resume(cfg: Config) -> None:
    """Go on from the last checkpoint of the run folder, from the beginning where there is none."""
    checkpoint = last_checkpoint(cfg.work_dir)
    if checkpoint is None:
        print(f"{cfg.work_dir} holds no iter_<N>.pth to resume from: training starts at iteration 0")
        return
    cfg.resume = True
    cfg.load_from = str(checkpoint)
