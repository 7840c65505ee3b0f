"""Score a trained segmentor on the test cases."""

import argparse
from pathlib import Path

from mmengine.config import Config

from medseg_kd.cli.config import add_shared_arguments, load_config, segmentor_of, type_errors_explained
from medseg_kd.engine import Runner
from medseg_kd.errors import UserError
from medseg_kd.evaluation.predictions import PredictionWriter
from medseg_kd.models.checkpoint import best_checkpoint, resolve_checkpoint


def main(argv: list[str] | None = None) -> None:
    """``test.py CONFIG [CHECKPOINT]``: Dice, Jaccard, HD95 and ASD for each organ, as table, JSON and CSV.

    A distillation config tests its student; the teacher is not needed.

    Raises:
        UserError: The config, the data or the checkpoint is not what it should be.
    """
    parser = argparse.ArgumentParser(prog="test.py", description="Score a trained segmentor on the test cases.")
    add_shared_arguments(parser)
    parser.add_argument("checkpoint", nargs="?", help="checkpoint or run folder (default: the run's last checkpoint)")
    parser.add_argument("--best", action="store_true", help="take the checkpoint with the best validation Dice")
    parser.add_argument(
        "--save-predictions", action="store_true", help="write <work dir>/test/predictions/<case>.nii.gz"
    )
    args = parser.parse_args(argv)
    cfg = load_config(args)
    checkpoint, notice = _choose(cfg, args)
    cfg.model = segmentor_of(cfg.model)
    cfg.load_from = str(checkpoint)
    cfg.resume = False
    folder = Path(cfg.work_dir, "test")
    cfg.test_evaluator.output_dir = str(folder)
    if args.save_predictions:
        writer = dict(type=PredictionWriter, output_dir=str(folder / "predictions"))
        cfg.test_evaluator = [cfg.test_evaluator, writer]
    with type_errors_explained(cfg):
        runner = Runner.from_cfg(cfg)
        runner.logger.info(f"testing {checkpoint}")
        if notice:
            runner.logger.warning(notice)
        runner.test()


def _choose(cfg: Config, args: argparse.Namespace) -> tuple[Path, str]:
    """The checkpoint to test, and what must be said of the choice."""
    if not args.best:
        return resolve_checkpoint(args.checkpoint or cfg.work_dir), ""
    if args.checkpoint and not Path(args.checkpoint).is_dir():
        raise UserError("--best chooses the checkpoint: give no checkpoint file beside it")
    run = args.checkpoint or cfg.work_dir
    best = best_checkpoint(run)
    if best is None:
        raise UserError(
            f"{run} holds no best_mDice_iter_<N>.pth: the run was never validated. Train with train_cfg.val_interval "
            "at most train_cfg.max_iters, or test the last checkpoint by leaving --best out"
        )
    leak = cfg.val_dataloader.dataset.split == cfg.test_dataloader.dataset.split
    return best, (
        "this checkpoint was chosen by its Dice on the test cases, so its test score is optimistic. Report the last "
        "checkpoint (leave --best out), or hold training cases out with val_cases=[...] and train again"
        if leak
        else ""
    )
