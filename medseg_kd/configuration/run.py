"""The config of a run: read, changed, completed and checked, the same from a command and from a notebook."""

from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from medseg_kd.configuration.options import set_options
from medseg_kd.configuration.reading import read_config
from medseg_kd.configuration.run_folder import run_folder
from medseg_kd.configuration.types import file_of, unknown_type
from medseg_kd.distill.teacher import find_weights
from medseg_kd.errors import UserError
from medseg_kd.registry import OPTIMIZERS

_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


def load_run(
    config: str | Path,
    options: Mapping[str, Any] | None = None,
    data_root: str | None = None,
    work_dir: str | None = None,
) -> Config:
    """Read a config, change it and complete it, see :func:`complete_run`.

    Args:
        config: Its path, from here or in the packaged configs.
        options: Keys to change, such as ``{"train_cfg.max_iters": 2000}``.
        data_root: Data folder of training, validation and test, if not the config's.
        work_dir: Run folder, if not the config's.

    Raises:
        UserError: No such file, an error in it, an option whose key does not exist, or parts that do not agree.
    """
    cfg = read_config(config)
    set_options(cfg, options or {})
    if work_dir:
        cfg.work_dir = work_dir
    for name in _LOADERS:
        if data_root and cfg.get(name):
            cfg[name].dataset.data_root = data_root
    complete_run(cfg)
    return cfg


def complete_run(cfg: Any) -> None:
    """Give a config its run folder, hold its ``val_cases`` out of training, and check what MMEngine notices late.

    A config that is complete stays as it is.

    Args:
        cfg: A whole config; the one that is given is changed.

    Raises:
        UserError: Parts do not agree, or there is no name for the run folder.
    """
    cfg["work_dir"] = run_folder(cfg)
    _hold_out(cfg)
    for name in _LOADERS:
        _keep_order((cfg.get(name) or {}).get("dataset"))
    _check_scope(cfg)
    _check_optimizer(cfg)


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


def _hold_out(cfg: Any) -> None:
    """Validate on the training cases named in ``val_cases`` and leave them out of training."""
    if cases := list(cfg.get("val_cases") or ()):
        trained = cfg["train_dataloader"]["dataset"]
        trained["exclude_cases"] = list(dict.fromkeys([*(trained.get("exclude_cases") or ()), *cases]))
        cfg["val_dataloader"]["dataset"].update(split="train", cases=cases)


def _keep_order(dataset: Any) -> None:
    """Make pairs of the channels of a data set, or of those that it wraps: MMEngine sorts the dicts that it writes."""
    if not isinstance(dataset, MutableMapping):
        return
    spec = dataset.get("spec")
    if isinstance(spec, MutableMapping) and isinstance(spec.get("channels"), Mapping):
        spec["channels"] = list(spec["channels"].items())
    for inner in (dataset.get("dataset"), *(dataset.get("datasets") or ())):
        _keep_order(inner)


def _check_scope(cfg: Any) -> None:
    """Refuse a model that is to be built by MMRazor itself, which does not import."""
    if isinstance(cfg["model"], Mapping) and cfg["model"].get("_scope_") == "mmrazor":
        raise UserError(
            f"{file_of(cfg)}: model._scope_ is 'mmrazor', but the algorithm, the distiller and the recorders are this "
            "project's own. Leave _scope_ out, and write type='mmrazor.<Name>' for MMRazor's losses and connectors; "
            "docs/mmrazor.md has the rest"
        )


def _check_optimizer(cfg: Any) -> None:
    """Refuse an unknown optimizer, which MMEngine only notices when it calls it."""
    kind = (cfg.get("optim_wrapper") or {}).get("optimizer", {}).get("type")
    if isinstance(kind, str) and OPTIMIZERS.get(kind) is None:
        raise unknown_type(cfg, kind, OPTIMIZERS.name)
