"""Score a trained segmentor on the test cases."""

from collections.abc import Sequence
from pathlib import Path

from medseg_kd.cli import Parser
from medseg_kd.cli.choices import DECODINGS
from medseg_kd.cli.prediction_arguments import add_prediction_arguments
from medseg_kd.cli.run_arguments import add_run_arguments, load_config
from medseg_kd.errors import UserError, in_short


def parser() -> Parser:
    """Its arguments."""
    made = Parser(
        "test.py",
        "Scores a trained segmentor on the test cases: Dice, Jaccard, HD95 and ASD of each organ, as a table and in "
        "<run folder>/test. Of a distillation config the student; the teacher is not needed.",
        [
            "configs/demo/unet_r18_phantom.py",
            "configs/demo/unet_r18_phantom.py work_dirs/my_run/iter_40000.pth --show-dir worst",
        ],
    )
    add_run_arguments(made)
    of = "checkpoint, or run folder (default: the run's last checkpoint)"
    made.add_argument("checkpoint", nargs="?", metavar="CHECKPOINT", help=of)
    made.add_argument("--best", action="store_true", help="take the checkpoint with the best validation Dice")
    write = made.add_argument_group("what is written").add_argument
    write("--save-predictions", action="store_true", help="write <run folder>/test/predictions/<case>.nii.gz")
    out = "a folder: write the predictions there; a .json file: the scores, too"
    write("--out", type=Path, metavar="PATH", help=out)
    write("--show-dir", metavar="DIR", help="draw the worst slices of each case there, truth beside prediction")
    write("--no-report", action="store_true", help="leave out <run folder>/report.html")
    add_prediction_arguments(made)
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """``test.py CONFIG [CHECKPOINT]``: Dice, Jaccard, HD95 and ASD for each organ, as table, JSON and CSV.

    A distillation config tests its student; the teacher is not needed.

    Raises:
        UserError: The config, the data or the checkpoint is not what it should be.
    """
    args = parser().read(argv)
    from mmengine.dist import is_main_process

    from medseg_kd.configuration import choose_checkpoint, set_test
    from medseg_kd.engine import Runner, WorstSlicesHook
    from medseg_kd.files import write_text
    from medseg_kd.inference.case import predict_with
    from medseg_kd.report.page.labels import KeepLabelsHook

    cfg = load_config(args)
    checkpoint, notice = choose_checkpoint(cfg, args.checkpoint, args.best)
    wanted = args.out if args.out and args.out.suffix != ".json" else None
    if wanted is None and args.save_predictions:
        wanted = Path(cfg.work_dir, "test", "predictions")
    settings = cfg.model
    metrics = set_test(cfg, checkpoint, wanted)
    if args.out and args.out != wanted and metrics is None:
        raise UserError(f"--out {args.out}: the test_evaluator has no VolumeMetric, which writes the scores")
    runner = Runner.from_cfg(cfg)
    runner.logger.info(f"testing {checkpoint or runner.bare_model.weights_source}")
    if notice:
        runner.logger.warning(notice)
    if args.tta or args.decode != DECODINGS[0]:
        predict_with(runner.bare_model, args.tta, args.decode)
    if args.show_dir:
        runner.register_hook(WorstSlicesHook(args.show_dir))
    kept = KeepLabelsHook(metrics.parent) if metrics and not args.no_report else None
    if kept:
        runner.register_hook(kept)
    runner.test()
    if args.out and args.out != wanted and metrics and is_main_process():
        write_text(args.out, metrics.read_text(encoding="utf-8"))
    if kept and is_main_process() and kept.has_scores:
        try:
            from medseg_kd.report.page.gathering import write_report

            options = " ".join(["--tta"] * args.tta + ["--decode", args.decode] * (args.decode != DECODINGS[0]))
            runner.logger.info(f"Report: {write_report(runner, kept, settings, options)}")
        except Exception as error:  # whatever it is, the scores are there
            runner.logger.warning(f"no report was written: {in_short(error)}. The scores are not affected")
