"""``tools/convert_weights.py``: checkpoints of other code become ours."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medseg_kd.configuration import read_config, segmentor_of
from medseg_kd.errors import UserError
from medseg_kd.models.checkpoint import check_weights, write_checkpoint
from medseg_kd.models.weights import SOURCES, convert
from medseg_kd.models.weights.foreign import read_foreign
from medseg_kd.registry import MODELS

_WRAPPERS = ("state_dict", "model", "model_state_dict", "net", "network_weights")


def main(argv: Sequence[str] | None = None) -> None:
    """Read a checkpoint, rename its weights, check that they fit the network, write them.

    Args:
        argv: the arguments; None takes the command line's.

    Raises:
        UserError: the file cannot be read, holds other weights than the source's, or the output cannot be written.
    """
    parser = argparse.ArgumentParser(
        prog="convert_weights.py",
        description="Turn a checkpoint of other code into one that test.py, teacher_ckpt and load_from take. Opening a "
        "checkpoint never runs code that is hidden in it.",
    )
    parser.add_argument("source", choices=SOURCES, help="whose weights they are; resnet: of an encoder, for init_cfg")
    parser.add_argument("input", metavar="IN", help="the checkpoint")
    parser.add_argument("output", metavar="OUT", type=Path, help="where ours is written, such as teacher.pth")
    parser.add_argument("--config", help="the config that must take the weights (default: the source's own)")
    parser.add_argument("--num-classes", type=int, metavar="N", help="classes with background (default: the config's)")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT")
    args = parser.parse_args(argv)
    if args.output.exists() and not args.overwrite:
        raise UserError(f"{args.output} is there already: choose another name, or replace it with --overwrite")
    if args.config and not SOURCES[args.source]:
        raise UserError(f"--config: {args.source} gives the weights of an encoder, which no config takes as a whole")
    weights = convert(args.source, _state_dict(read_foreign(args.input), args.input))
    configs = [args.config] if args.config else [f"configs/{name}" for name in SOURCES[args.source]]
    said = "for init_cfg=dict(type='Pretrained', checkpoint=...) of the encoder"
    if configs:
        said = f"for {_fitting(weights, configs, args.num_classes, args.input)}"
        weights = {f"network.{key}": value for key, value in weights.items()}
    meta = {"converted_from": args.source, "file": Path(args.input).name}
    write_checkpoint({"meta": meta, "state_dict": weights}, args.output)
    millions = sum(value.numel() for value in weights.values()) / 1e6
    print(f"wrote {args.output}: {len(weights)} tensors, {millions:.2f} M numbers, {said}")


def _state_dict(checkpoint: dict[str, Any], source: str) -> dict[str, Tensor]:
    """The weights of a checkpoint, without the wrappers that training code puts around them."""
    inner: Any = checkpoint
    while wrapper := next((name for name in _WRAPPERS if isinstance(inner.get(name), dict)), None):
        inner = inner[wrapper]
    weights = {str(key).removeprefix("module."): value for key, value in inner.items() if isinstance(value, Tensor)}
    if not weights:
        raise UserError(f"{source} holds no weights: its keys are {', '.join(map(str, list(inner)[:8])) or 'none'}")
    return weights


def _fitting(weights: dict[str, Tensor], configs: Sequence[str], classes: int | None, source: str) -> str:
    """The config whose network takes the weights.

    Raises:
        UserError: None of them does; the message lists what keeps the weights from the most similar one.
    """
    networks = {config: _network(config, classes) for config in configs}
    nearest = min(networks, key=lambda config: _differences(networks[config].state_dict(), weights))
    check_weights(networks[nearest], weights, f"{source} does not fit {nearest}")
    return nearest


def _differences(wanted: dict[str, Tensor], given: dict[str, Tensor]) -> int:
    """Names and shapes that only one side has."""
    sides = [{(key, value.shape) for key, value in side.items()} for side in (wanted, given)]
    return len(sides[0] ^ sides[1])


def _network(config: str, classes: int | None) -> nn.Module:
    """The network of a config's segmentor, without memory for its weights."""
    model = segmentor_of(read_config(config).model)
    with torch.device("meta"):
        return MODELS.build({**model, **({"num_classes": classes} if classes else {})}).network
