"""Score a trained segmentor on the test cases."""

from medseg_kd.cli import Parser
from medseg_kd.cli.run_arguments import add_run_arguments, load_config, parse
from medseg_kd.configuration import choose_checkpoint, set_test
from medseg_kd.engine import Runner


def main(argv: list[str] | None = None) -> None:
    """``test.py CONFIG [CHECKPOINT]``: Dice, Jaccard, HD95 and ASD for each organ, as table, JSON and CSV.

    A distillation config tests its student; the teacher is not needed.

    Raises:
        UserError: The config, the data or the checkpoint is not what it should be.
    """
    parser = Parser(prog="test.py", description="Score a trained segmentor on the test cases.")
    add_run_arguments(parser)
    parser.add_argument("checkpoint", nargs="?", help="checkpoint or run folder (default: the run's last checkpoint)")
    parser.add_argument("--best", action="store_true", help="take the checkpoint with the best validation Dice")
    parser.add_argument(
        "--save-predictions", action="store_true", help="write <work dir>/test/predictions/<case>.nii.gz"
    )
    args = parse(parser, argv)
    cfg = load_config(args)
    checkpoint, notice = choose_checkpoint(cfg, args.checkpoint, args.best)
    set_test(cfg, checkpoint, args.save_predictions)
    runner = Runner.from_cfg(cfg)
    runner.logger.info(f"testing {checkpoint}")
    if notice:
        runner.logger.warning(notice)
    runner.test()
