"""Checkpoints of other code become ones that ``test.py``, ``teacher_ckpt`` and ``load_from`` take."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medseg_kd.configuration import build_model, read_config, segmentor_of
from medseg_kd.errors import UserError
from medseg_kd.models.checkpoint import check_weights, write_checkpoint
from medseg_kd.models.mmseg_adapter import adapt
from medseg_kd.models.weights import SOURCES
from medseg_kd.models.weights.foreign import read_foreign, weights_of
from medseg_kd.registry import MODELS


def convert_checkpoint(
    source: str, file: str, out: Path, config: str | None = None, num_classes: int | None = None
) -> tuple[dict[str, Tensor], str | None]:
    """Read a checkpoint of one of ``SOURCES``, rename its weights, check that they fit the network, write them.

    Args:
        source: Whose weights they are.
        file: The checkpoint.
        out: Where ours is written.
        config: The config that must take the weights; None: one of the source's own.
        num_classes: Classes with background; None: the config's.

    Returns:
        The weights, and the config that takes them; None for an encoder's.
    """
    is_whole, read = SOURCES[source].is_whole, read_foreign(file)
    if config and not (SOURCES[source].configs or is_whole):
        raise UserError(f"--config: {source} gives the weights of an encoder, which no config takes as a whole")
    weights = SOURCES[source].convert(weights_of(read, file))
    configs = [config] if config else [f"configs/{name}" for name in SOURCES[source].configs]
    if is_whole and config:
        check_weights(_segmentor(config), weights, f"{file} does not fit {config}")
        taken_by: str | None = config
    elif taken_by := _fitting(weights, configs, num_classes, file) if configs else None:
        weights = {f"network.{key}": value for key, value in weights.items()}
    meta = _told(read.get("meta")) if is_whole else {}
    write_checkpoint({"meta": {**meta, "converted_from": source, "file": Path(file).name}, "state_dict": weights}, out)
    return weights, taken_by


def _fitting(weights: dict[str, Tensor], configs: Sequence[str], classes: int | None, source: str) -> str:
    """The config whose network takes the weights.

    Raises:
        UserError: None of them does; the message lists what keeps the weights from the most similar one.
    """
    given = {(key, value.shape) for key, value in weights.items()}
    networks = {}
    for config in configs:
        model = segmentor_of(read_config(config).model)
        with torch.device("meta"):  # without memory for the weights
            networks[config] = MODELS.build({**model, **({"num_classes": classes} if classes else {})}).network
    wanted = {
        config: {(key, value.shape) for key, value in network.state_dict().items()}
        for config, network in networks.items()
    }
    nearest = min(wanted, key=lambda config: len(wanted[config] ^ given))
    check_weights(networks[nearest], weights, f"{source} does not fit {nearest}")
    return nearest


def _segmentor(config: str) -> Any:
    """The segmentor that a config trains."""
    cfg = read_config(config)
    cfg.model = segmentor_of(cfg.model)
    return adapt(build_model(cfg))


def _told(meta: Any) -> dict[str, Any]:
    """What a checkpoint of MMEngine says of its images: class names, and the config as text."""
    meta = meta if isinstance(meta, Mapping) else {}
    classes = (meta.get("dataset_meta") or {}).get("classes") or meta.get("CLASSES") or ()
    text = meta.get("cfg") or meta.get("config")
    return {"dataset_meta": {"classes": [*map(str, classes)]}, **({"cfg": text} if isinstance(text, str) else {})}
