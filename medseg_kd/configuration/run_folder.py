"""Rules of the run folder: where it lies, what a run goes on from, what of it is tested."""

from pathlib import Path
from typing import Any

from mmengine.config import Config

from medseg_kd.configuration.explaining import file_of
from medseg_kd.configuration.names import LOADERS, innermost
from medseg_kd.configuration.reading import brings_weights, segmentor_of
from medseg_kd.errors import UserError
from medseg_kd.evaluation import VolumeMetric
from medseg_kd.evaluation.predictions import PredictionWriter
from medseg_kd.models.checkpoint import best_checkpoint, last_checkpoint, resolve_checkpoint
from medseg_kd.registry import METRICS, found


def run_folder(cfg: Any) -> str:
    """Where a config is trained: its ``work_dir``, else ``work_dirs/<name of its file>``.

    Raises:
        UserError: It has neither.
    """
    if cfg.get("work_dir"):
        return cfg["work_dir"]
    file = getattr(cfg, "filename", None)
    if file is None:
        raise UserError("the config has no work_dir, and no file that could give it a name: set work_dir")
    return f"work_dirs/{Path(file).stem}"


def resume(cfg: Config) -> bool:
    """Let a run go on from the last whole checkpoint of its folder, which it looks up; False where there is none."""
    there_is_one = last_checkpoint(cfg.work_dir) is not None
    if there_is_one:
        cfg.resume = True
        cfg.load_from = None
    return there_is_one


def choose_checkpoint(cfg: Config, given: str | None = None, best: bool = False) -> tuple[Path | None, str]:
    """The checkpoint to test, and what must be said of the choice; None for a model that brings its weights.

    Args:
        cfg: Of the run.
        given: A checkpoint or another run's folder, if not the last of this run.
        best: Take the best of the validations, by the first metric of the checkpoint hook's ``save_best``.
    """
    if brings_weights(segmentor_of(cfg.model)):
        if given or best:
            raise UserError(f"{file_of(cfg)}: its model brings its weights: give no checkpoint, and leave --best out")
        return None, ""
    if not best:
        last = resolve_checkpoint(given or cfg.work_dir)
        return last, _other_fold(cfg, last)
    if given and not Path(given).is_dir():
        raise UserError("--best chooses the checkpoint: give no checkpoint file beside it")
    run = given or cfg.work_dir
    hook = cfg.get("default_hooks", {}).get("checkpoint") or {}
    metrics = hook.get("save_best") or "mDice"
    metric = metrics if isinstance(metrics, str) else metrics[0]
    checkpoint = best_checkpoint(run, "*" if metric == "auto" else metric)
    if checkpoint is None:
        raise UserError(
            f"{run} holds no best_{metric}_iter_<N>.pth: the run was never validated. Train with "
            "train_cfg.val_interval at most train_cfg.max_iters, or test the last checkpoint by leaving --best out"
        )
    validated, tested = (cfg.get(name) and cfg[name]["dataset"].get("split") for name in LOADERS[1:])
    leak = (
        f"this checkpoint was chosen by its {metric.removeprefix('m')} on the test cases, so its test score is "
        "optimistic. Report the last checkpoint (leave --best out), or hold training cases out with val_cases=[...] "
        "and train again"
    )
    return checkpoint, leak if validated == tested else _other_fold(cfg, checkpoint)


def _other_fold(cfg: Config, checkpoint: Path) -> str:
    """What must be said of a checkpoint that was trained on another fold than the one that is tested."""
    trained = checkpoint.parent.name
    for dataset in innermost((cfg.get("test_dataloader") or {}).get("dataset")):
        tested = (dataset.get("format_options") or {}).get("fold", 0)
        if trained.startswith("fold_") and trained != f"fold_{tested}":
            return (
                f"this checkpoint is of {trained}, but fold {tested} is tested: unless those are cases apart from the "
                f"folds (imagesTs), it was trained on them. Name its own fold: --fold {trained[5:]}"
            )
    return ""


def set_test(cfg: Config, checkpoint: Path | None, predictions: str | Path | None = None) -> Path | None:
    """Let a config test a checkpoint: of a distillation the student, with the scores in ``test`` of the run folder.

    Args:
        cfg: Of the run; it is changed.
        checkpoint: Of the segmentor; None where it brings its weights.
        predictions: Folder of ``<case>.nii.gz``, where those are wanted too.

    Returns:
        Where ``metrics.json`` will be; None where no metric writes it.
    """
    if cfg.get("test_evaluator") is None:
        raise UserError(f"{file_of(cfg)} has no test_evaluator, test_dataloader and test_cfg: there is nothing to test")
    cfg.model = segmentor_of(cfg.model)
    cfg.load_from = None if checkpoint is None else str(checkpoint)
    cfg.resume = False
    given = cfg.test_evaluator
    metrics = list(given) if isinstance(given, (list, tuple)) else given.get("metrics", [given])
    scoring = [metric for metric in metrics if issubclass(found(METRICS, metric["type"]), VolumeMetric)]
    for metric in scoring:
        metric.setdefault("output_dir", str(Path(cfg.work_dir, "test")))
    if predictions is not None:
        metrics.append(dict(type=PredictionWriter, output_dir=str(predictions)))
    cfg.test_evaluator = {**given, "metrics": metrics} if "metrics" in given else metrics
    return Path(scoring[0]["output_dir"], "metrics.json") if scoring and scoring[0]["output_dir"] else None
