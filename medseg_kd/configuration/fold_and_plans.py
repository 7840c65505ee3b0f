"""What nnU-Net's users say in a word: the fold of a run, and its plans."""

import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medseg_kd.configuration.names import LOADERS, innermost
from medseg_kd.configuration.reading import model_of, segmentor_of
from medseg_kd.configuration.run_folder import run_folder
from medseg_kd.datasets.formats import Format, NNUNet
from medseg_kd.datasets.formats.base import find_format
from medseg_kd.datasets.nnunet_plans import planned_rules, with_rules
from medseg_kd.datasets.spec import DataSpec, parts_of_config
from medseg_kd.errors import UserError
from medseg_kd.text_files import read_json

PLANS = "nnUNetPlans.json"


def set_fold(cfg: Any, fold: int | str, keep_folder: bool, keep_teacher: bool) -> None:
    """Let a run train, validate and test on a fold, in the folder ``fold_<N>`` of its run folder.

    A teacher's run folder is that of the same fold: a teacher of another one has learnt from what is tested.

    Args:
        cfg: A config with its data folders; it is changed.
        fold: Number of the fold, or ``all``.
        keep_folder: The run folder is the caller's.
        keep_teacher: So are the teachers' checkpoints.

    Raises:
        UserError: The data have no folds.
    """
    for loader, dataset, reader in _readers(cfg):
        if "fold" not in inspect.signature(type(reader)).parameters:
            raise UserError(
                f"--fold {fold}: {reader.root} is in the format {reader.name}, which has no folds. Leave --fold out; "
                "val_cases=[...] in the config holds training cases out"
            )
        dataset["format_options"] = {**(dataset.get("format_options") or {}), "fold": fold}
        if fold == "all" and loader == LOADERS[1] and isinstance(reader, NNUNet) and not reader.has_test:
            dataset["split"] = "val"
    if not keep_folder:
        cfg["work_dir"] = str(Path(run_folder(cfg), f"fold_{fold}"))
    model = model_of(cfg)
    for entry, key in ((model, "teacher_ckpt"), *((each, "ckpt") for each in model.get("teachers") or ())):
        run = entry.get(key)
        if run and not keep_teacher and "://" not in run and not Path(run).is_file():
            entry[key] = str(Path(run, f"fold_{fold}"))


def set_plans(cfg: Any, given: str) -> str:
    """Take intensity rules and the size of slices from nnU-Net's plans of the same data set, configuration ``2d``.

    Args:
        cfg: A config with its data folders; it is changed.
        given: The file; empty looks for it beside the data and in ``nnUNet_preprocessed``.

    Returns:
        What was taken, in words.

    Raises:
        UserError: There are no plans, they are of other data, or the data are prepared already.
    """
    said = ""
    for _, dataset, reader in _readers(cfg):
        if reader.prepared:
            raise UserError(
                f"--from-plans: {reader.root} holds prepared slices (format {reader.name}), whose intensities are "
                "worked out already. Give the raw data set with --data-root"
            )
        path = Path(given) if given else _find_plans(reader.root)
        rules, plan = planned_rules(path)
        plan.check_2d()
        name, folder = read_json(path, dict).get("dataset_name"), reader.root.resolve().name
        if folder.startswith("Dataset") and name != folder:
            raise UserError(f"{path} holds the plans of {name}, but the data are {reader.root}: name their plans")
        spec = dict(dataset.get("spec") or {})
        own = {**reader.told(), **parts_of_config(spec, "dataset.spec")}.get("channels")
        if not own:
            raise UserError(f"--from-plans: {reader.root} does not name its channels: name them in dataset.spec")
        channels = with_rules(DataSpec(own, ()), rules, plan.where).channels
        dataset["spec"] = {**spec, "channels": [(each.name, each.intensity.to_json()) for each in channels]}
        dataset.pop("size", None)
        said = f"from {path}: {', '.join(map(str, channels))}"
    model = model_of(cfg)
    preprocessor = (model if model.get("data_preprocessor") else segmentor_of(model)).get("data_preprocessor")
    if plan.transpose != (0, 1, 2) or preprocessor is None:
        return f"{said}; slices keep the config's size, as patches are of slices along another axis, or nothing resizes"
    preprocessor["size"] = plan.patch_size
    return f"{said}; slices are resized to {plan.patch_size}, its patches"


def _readers(cfg: Any) -> Iterator[tuple[str, Any, Format]]:
    """The data sets of a config: loader, config, and the format of their folder."""
    for name in LOADERS:
        for dataset in innermost((cfg.get(name) or {}).get("dataset")):
            if not dataset.get("data_root"):
                raise UserError(f"{name}.dataset names no data_root, and so neither folds nor plans")
            kind = dataset.get("layout") or dataset.get("format", "auto")
            split = "train" if name == LOADERS[0] else dataset.get("split", "test")
            yield name, dataset, find_format(dataset["data_root"], split, kind, dataset.get("format_options"))


def _find_plans(root: Path) -> Path:
    """The plans of a raw data set."""
    own, folder = root.resolve(), os.environ.get("nnUNet_preprocessed")  # noqa: SIM112
    places = [own / PLANS, own.parent.with_name("nnUNet_preprocessed") / own.name / PLANS]
    places += [Path(folder, own.name, PLANS)] if folder else []
    if found := [place for place in places if place.is_file()]:
        return found[0]
    raise UserError(
        f"--from-plans: no {PLANS} of {root} at {' or '.join(map(str, places))}. Name the file: --from-plans FILE"
    )
