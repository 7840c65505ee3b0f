"""Train what a config describes."""

from collections.abc import Sequence

from medseg_kd.cli import Parser
from medseg_kd.cli.run_arguments import add_run_arguments, load_config


def parser() -> Parser:
    """Its arguments."""
    made = Parser(
        "train.py",
        "Trains a segmentor, or distils a teacher into a student, as a config says. The run folder gets checkpoints, "
        "log and config.",
        [
            "configs/demo/unet_r18_phantom.py --cfg-options train_cfg.max_iters=2000 randomness.seed=1",
            "configs/unet/unet_r18v1c_d8_40k_synapse.py --data-root data/synapse --amp",
        ],
    )
    add_run_arguments(made)
    further = made.add_mutually_exclusive_group()
    further.add_argument("--resume", action="store_true", help="go on from the run folder's last checkpoint")
    further.add_argument(
        "--extend",
        type=int,
        metavar="ITERS",
        help="go on to ITERS iterations in all, also after the run's end; the learning rate stays as it ends",
    )
    made.add_argument("--amp", action="store_true", help="train in bf16 or fp16, whichever the device has natively")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """``train.py CONFIG``: train a segmentor, or distil a teacher into a student.

    Raises:
        UserError: The config, the data or a checkpoint is not what it should be.
    """
    args = parser().read(argv)
    from medseg_kd.configuration import extend, native_precision, resume
    from medseg_kd.engine import Runner

    cfg = load_config(args)
    if args.amp:
        cfg.optim_wrapper = native_precision(cfg.optim_wrapper)
    if args.resume and not resume(cfg):
        print(f"{cfg.work_dir} holds no iter_<N>.pth to resume from: training starts at iteration 0")
    if args.extend is not None:
        print(extend(cfg, args.extend))
    Runner.from_cfg(cfg).train()
