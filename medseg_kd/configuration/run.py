"""The config of a run: read, changed, completed and checked, the same from a command and from a notebook."""

from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from medseg_kd.configuration.checking import check_config
from medseg_kd.configuration.explaining import file_of
from medseg_kd.configuration.fold_and_plans import set_fold, set_plans
from medseg_kd.configuration.names import LOADERS, innermost, lookalikes
from medseg_kd.configuration.nnunet import take_rules
from medseg_kd.configuration.openmmlab import settle_names
from medseg_kd.configuration.options import set_options
from medseg_kd.configuration.reading import model_of, read_config
from medseg_kd.configuration.run_folder import run_folder
from medseg_kd.datasets import SliceDataset
from medseg_kd.distill.stored import StoredTeacher
from medseg_kd.distill.teacher import find_weights
from medseg_kd.errors import UserError
from medseg_kd.registry import DATASETS, MODELS, found


def load_run(
    config: str | Path,
    options: Mapping[str, Any] | None = None,
    data_root: str | None = None,
    work_dir: str | None = None,
    fold: int | str | None = None,
    plans: str | None = None,
) -> Config:
    """Read a config by its path, change it and complete it, see :func:`complete_run`.

    Args:
        config: See :func:`read_config`.
        options: See :func:`set_options`.
        data_root: Data folder of training, validation and test, if not the config's.
        work_dir: Run folder, if not the config's.
        fold: Of nnU-Net's data sets, see :func:`~medseg_kd.configuration.fold_and_plans.set_fold`.
        plans: nnU-Net's plans of the data set, or empty to look for them, see
            :func:`~medseg_kd.configuration.fold_and_plans.set_plans`.
    """
    cfg = read_config(config)
    set_options(cfg, options or {})
    if work_dir:
        cfg.work_dir = work_dir
    for name in LOADERS:
        if data_root and cfg.get(name):
            _set_root(name, cfg[name]["dataset"], data_root)
    if fold is not None:
        set_fold(cfg, fold, bool(work_dir), any("ckpt" in key for key in options or ()))
    if plans is not None:
        print_log(set_plans(cfg, plans))
    complete_run(cfg)
    return cfg


def complete_run(cfg: Any) -> None:
    """Give a whole config its run folder, settle which cases are trained on, and check it; twice is as once.

    Raises:
        UserError: See :func:`check_config`, or parts do not agree, or there is no name for the run folder.
    """
    cfg["work_dir"] = run_folder(cfg)
    settle_names(cfg, read_config)
    _hold_out(cfg)
    _take_unlabelled(cfg)
    datasets = [each for name in LOADERS for each in innermost((cfg.get(name) or {}).get("dataset"))]
    if isinstance(model := model_of(cfg), Mapping):
        take_rules(model, datasets)
    for dataset in datasets:
        _keep_order(dataset)
    check_config(cfg)
    if isinstance(cfg.get("visualizer"), MutableMapping):
        _keep_scalars(cfg["visualizer"])
    imports = cfg.get("custom_imports") or {}
    # So that MMEngine finds the runner, from the config that is written too.
    own = dict.fromkeys(["medseg_kd.engine", *_listed(imports.get("imports"))])
    cfg["custom_imports"] = {"allow_failed_imports": False, **imports, "imports": list(own)}
    for name in lookalikes(cfg):
        cfg.pop(name)  # a variable: in the config that is written nothing uses it any more


def _keep_scalars(visualizer: MutableMapping[str, Any]) -> None:
    """Write the losses into the run folder too, as with a config that names no visualizer: reports read them there."""
    given = visualizer.get("vis_backends", ())
    if isinstance(given, (list, tuple)) and not any("LocalVisBackend" in str(each.get("type")) for each in given):
        visualizer["vis_backends"] = [{"type": "LocalVisBackend"}, *given]


def native_precision(optim_wrapper: Mapping[str, Any]) -> dict[str, Any]:
    """The config of an optimizer wrapper, with the precision that the device has natively in place of its own."""
    kept = {key: value for key, value in optim_wrapper.items() if key not in ("dtype", "loss_scale", "use_fsdp")}
    # By its name: the run folder's config could not be read again with a class in it.
    return {**kept, "type": "medseg_kd.NativeAmpOptimWrapper"}


def find_teachers(cfg: Any) -> None:
    """Put the checkpoints into a config that its teachers' run folders stand for.

    Raises:
        UserError: One is not there; the message names the command that trains it.
    """
    model = cfg["model"]
    if not isinstance(model, MutableMapping):
        return
    for entry, key in ((model, "teacher_ckpt"), *((each, "ckpt") for each in model.get("teachers") or ())):
        if entry.get(key):
            entry[key] = find_weights(entry[key])


def give_soft_labels(cfg: Any) -> None:
    """Give the folder of a stored teacher to the training data of a config, whose items bring its probabilities.

    Raises:
        UserError: They cannot be that teacher's.
    """
    model = cfg["model"] if isinstance(cfg["model"], Mapping) else {}
    teacher = model.get("teacher")
    parts = innermost((cfg.get(LOADERS[0]) or {}).get("dataset"))
    where, file = f"{LOADERS[0]}.dataset.soft_labels", file_of(cfg)
    if not isinstance(teacher, Mapping) or found(MODELS, teacher.get("type")) is not StoredTeacher:
        if any(part.get("soft_labels") for part in parts):
            raise UserError(
                f"{file}: {where} is set, but no teacher takes it: set model.teacher=dict(type='StoredTeacher', ...)"
            )
        return
    if model.get("teacher_ckpt"):
        raise UserError(
            f"{file}: model.teacher_ckpt is {model['teacher_ckpt']}, but a StoredTeacher has none: set it to None"
        )
    if len(parts) > 1:
        raise UserError(
            f"{file}: a StoredTeacher teaches one data set, but {LOADERS[0]} has {len(parts)}: join them in one folder"
        )
    for part in parts:
        folder, own = teacher.get("folder"), part.get("soft_labels")
        if not _is_of_slices(part):
            raise UserError(f"{file}: a StoredTeacher teaches a SliceDataset, but {LOADERS[0]} has {part.get('type')}")
        if own not in (None, folder):
            raise UserError(f"{file}: {where} is {own}, but model.teacher.folder is {folder}: leave the first out")
        part["soft_labels"] = folder


def _is_of_slices(dataset: Mapping[str, Any]) -> bool:
    """Whether the config is one of a :class:`SliceDataset`."""
    kind = found(DATASETS, dataset.get("type"))
    return isinstance(kind, type) and issubclass(kind, SliceDataset)


def _set_root(loader: str, dataset: Any, root: str) -> None:
    """Let a data set, or the one that it wraps, read another folder."""
    parts = innermost(dataset)
    if len({part.get("data_root") for part in parts}) > 1:
        folders = ", ".join(str(part.get("data_root")) for part in parts)
        raise UserError(
            f"--data-root {root} would take the place of several folders of {loader}: {folders}. Name each by "
            f"--cfg-options, such as {loader}.dataset.datasets.0.data_root={root}"
        )
    for part in parts:
        part["data_root"] = root


def _hold_out(cfg: Any) -> None:
    """Validate on the training cases named in ``val_cases`` and leave them out of training."""
    if cases := _listed(cfg.get("val_cases")):
        (trained, *more), (validated, *_) = (innermost(cfg[name]["dataset"]) for name in LOADERS[:2])
        if more:
            raise UserError(
                f"{file_of(cfg)}: val_cases does not say in which of {len(more) + 1} training data sets the cases are. "
                "Set exclude_cases in that one, and split and cases in val_dataloader.dataset"
            )
        trained["exclude_cases"] = list(dict.fromkeys([*_listed(trained.get("exclude_cases")), *cases]))
        validated.update(split="train", cases=cases)


def _take_unlabelled(cfg: Any) -> None:
    """Let the training data of a config take cases without a label, where its teacher labels them."""
    model = cfg.get("model")
    if isinstance(model, Mapping) and model.get("teacher_labels"):
        for part in filter(_is_of_slices, innermost((cfg.get(LOADERS[0]) or {}).get("dataset"))):
            part["with_unlabelled"] = True


def _keep_order(dataset: Any) -> None:
    """Make pairs of the channels of a data set: MMEngine sorts the dicts that it writes."""
    spec = dataset.get("spec")
    if isinstance(spec, MutableMapping) and isinstance(spec.get("channels"), Mapping):
        spec["channels"] = list(spec["channels"].items())


def _listed(names: Any) -> list[Any]:
    """Names of a list; a text is one name, None none."""
    return [names] if isinstance(names, str) else list(names or ())
