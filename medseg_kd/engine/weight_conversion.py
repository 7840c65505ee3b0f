"""Checkpoints of other code become ones that ``test.py``, ``teacher_ckpt`` and ``load_from`` take."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from medseg_kd.configuration import read_config, segmentor_of
from medseg_kd.errors import UserError
from medseg_kd.models.checkpoint import check_weights, write_checkpoint
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
    if config and not SOURCES[source].configs:
        raise UserError(f"--config: {source} gives the weights of an encoder, which no config takes as a whole")
    weights = SOURCES[source].convert(weights_of(read_foreign(file), file))
    configs = [config] if config else [f"configs/{name}" for name in SOURCES[source].configs]
    taken_by = _fitting(weights, configs, num_classes, file) if configs else None
    if taken_by:
        weights = {f"network.{key}": value for key, value in weights.items()}
    write_checkpoint({"meta": {"converted_from": source, "file": Path(file).name}, "state_dict": weights}, out)
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
