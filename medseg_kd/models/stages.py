"""The stages of a network, as ``feature_info`` names them; what it leaves out is found by running the model once."""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from medseg_kd.errors import UserError, first_line
from medseg_kd.models.padding import divisible_size

Stage = dict[str, Any]
"""``module``, a path; ``data_idx`` where that returns several maps; ``channels``; ``reduction`` of the size."""

_KEYS = ("module", "data_idx", "channels", "reduction")
_MEASURED = ("channels", "reduction")
_SIZE = (128, 128)
_NEAREST = 5
# Of networks that tell nothing: library and class to the modules, shallow to deep, that give what its decoder takes.
_ENCODERS = {
    ("segmentation_models_pytorch", "SegmentationModel"): r"encoder",
    ("segmentation_models_pytorch", "DPT"): r"decoder\.reassemble_blocks\.\d",
    ("monai", "AHNet"): r"layer\d",
    ("monai", "AttentionUnet"): r"model\.0|model(\.1\.submodule)+\.(0|conv)",
    ("monai", "BasicUNet"): r"conv_0|down_\d",
    ("monai", "BasicUNetPlusPlus"): r"conv_\d_0",
    ("monai", "DynUNet"): r"input_block|downsamples\.\d+|bottleneck",
    ("monai", "FlexibleUNet"): r"encoder",
    ("monai", "MedNeXt"): r"enc_stages\.\d+|bottleneck",
    ("monai", "SegResNet"): r"down_layers\.\d+",
    ("monai", "SegResNetDS"): r"encoder",
    ("monai", "SwinUNETR"): r"swinViT",
    ("monai", "UNet"): r"model\.0|model(\.1\.submodule)+\.0",
    ("monai", "UNETR"): r"encoder\d",
    ("monai", "VNet"): r"in_tr|down_tr\d+",
}


def told_by(network: nn.Module) -> list[Stage]:
    """What a network says of its stages, or what is known of one of MONAI and segmentation_models_pytorch.

    Paths are from the network; entries may lack what :func:`complete` finds.
    """
    if own := getattr(network, "feature_info", None):
        return [dict(stage) for stage in own]
    for kind in type(network).__mro__:
        if pattern := _ENCODERS.get((kind.__module__.partition(".")[0], kind.__name__)):
            return [{"module": name} for name, _ in network.named_modules() if re.fullmatch(pattern, name)]
    return []


def complete(model: Any, stages: Sequence[Mapping[str, Any]], where: str = "", check: bool = False) -> list[Stage]:
    """Stages with their channels and reductions, shallow to deep.

    Where something lacks, or is to be checked, the model runs once, in eval mode, on one black image: of the size that
    it resizes to, else of 128x128. An entry without channels and ``data_idx`` whose module returns several maps stands
    for all of them, the largest first; an input that it hands on is none of them.

    Args:
        model: A segmentor.
        stages: Entries with a ``module``, its path from the model, and what is known of it.
        where: Their place in the config, for messages.
        check: Whether what they say is compared with what is found.

    Raises:
        UserError: A module is not there (the message names the nearest), does not run, or returns something else than
            is said.
    """
    where = where or f"feature_info of {_name(model)}"
    for index, stage in enumerate(stages):
        if not isinstance(stage, Mapping) or not isinstance(stage.get("module"), str) or {*stage} - {*_KEYS}:
            raise UserError(
                f"{where}[{index}] is {stage!r}, expected dict(module='network.encoder.layer1', channels=64, "
                "reduction=4), with data_idx=<i> where the module returns several maps; channels and reduction may be "
                "left out"
            )
    if not check and all(stage.keys() >= {*_MEASURED} for stage in stages):
        return [dict(stage) for stage in stages]
    found = _run(model, [stage["module"] for stage in stages], where)
    completed = []
    for index, stage in enumerate(stages):
        maps = found[stage["module"]]
        if "data_idx" in stage or "channels" in stage or len(maps) == 1:
            completed.append(_one(stage, maps, f"{where}[{index}]"))
        else:
            completed += [{**stage, **measured} for measured in sorted(maps.values(), key=lambda one: one["reduction"])]
    if check and any(a["reduction"] > b["reduction"] for a, b in zip(completed, completed[1:], strict=False)):
        raise UserError(
            f"{where}: the stages have the reductions {', '.join(str(each['reduction']) for each in completed)}. Write "
            "them shallow to deep, which is how the stages of teacher and student are paired"
        )
    return completed


def look_up(model: nn.Module, what: str, get: Callable[[str], Any], source: str) -> Any:
    """The module or parameter of this name; an error shows the nearest, first those that end as it does."""
    try:
        return get(source)
    except AttributeError as error:
        known = [name for name, _ in getattr(model, f"named_{what}s")() if name]
        nearest = [name for name in known if name.endswith(f".{source}") or source.endswith(f".{name}")]
        nearest += difflib.get_close_matches(source, known, n=_NEAREST, cutoff=0.4)
        shown = "\n    ".join(list(dict.fromkeys(nearest or known))[:_NEAREST])
        raise UserError(
            f"{_name(model)} has no {what} {source!r} to record. The nearest names:\n    {shown}\n"
            "tools/list_taps.py prints all of a config's model, with their shapes"
        ) from error


def _one(stage: Mapping[str, Any], maps: dict[int | None, Stage], where: str) -> Stage:
    """An entry that stands for one map, with what was measured of it."""
    index = stage.get("data_idx", next(iter(maps)) if len(maps) == 1 else None)
    if index not in maps:
        shown = "; ".join(f"data_idx={i}: {_text(one)}" for i, one in maps.items())
        raise UserError(f"{where}: {stage['module']} returns {shown}. Choose one of them with data_idx")
    measured = maps[index]
    if wrong := [key for key in _MEASURED if stage.get(key, measured[key]) != measured[key]]:
        told = " and ".join(f"{key}={stage[key]!r}" for key in wrong)
        raise UserError(f"{where}: {stage['module']} gives {_text(measured)}, not {told}. Correct it, or leave it out")
    return {**stage, **measured}


def _run(model: Any, sources: Sequence[str], where: str) -> dict[str, dict[int | None, Stage]]:
    """For each module the maps (N, C, h, w) that it returns at its first call, by their ``data_idx``."""
    try:
        modules = {source: look_up(model, "module", model.get_submodule, source) for source in sources}
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    size = getattr(model.data_preprocessor, "size", None) or divisible_size(_SIZE, model.size_divisor)
    image = torch.zeros(1, model.in_channels or 1, *size, device=next(model.parameters()).device)
    found: dict[str, dict[int | None, Stage]] = {}

    def record(source: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        found.setdefault(source, _maps(inputs, output, size))

    failed = ""
    modes = [(module, module.training) for module in model.modules()]
    with ExitStack() as stack:
        for source, module in modules.items():
            stack.callback(module.register_forward_hook(partial(record, source)).remove)
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(torch.no_grad())
        try:
            model.eval()(image, mode="tensor")
        except Exception as error:  # of anybody's network; what ran before it is known
            failed = f": {_name(model)} stops at an image of {tuple(image.shape)} ({first_line(error)})"
    for module, mode in modes:
        module.training = mode
    if missing := [source for source in modules if not found.get(source)]:
        reason = failed or f": it does not run, or returns no map (N, C, H, W), on an image of {tuple(image.shape)}"
        raise UserError(
            f"{where}: what {missing[0]} returns is not known{reason}. Give the size that the network takes as "
            "model.data_preprocessor.size, or name another module: tools/list_taps.py prints them"
        )
    return found


def _maps(inputs: tuple[Any, ...], output: Any, size: Sequence[int]) -> dict[int | None, Stage]:
    """The maps in what a module returned."""
    several = isinstance(output, (list, tuple))
    maps: dict[int | None, Stage] = {}
    for index, each in enumerate(output) if several else [(None, output)]:
        if isinstance(each, Tensor) and each.ndim == 4 and each.numel() and not any(each is own for own in inputs):
            told = {"data_idx": index} if several else {}
            maps[index] = {**told, "channels": each.shape[1], "reduction": round(size[0] / each.shape[2])}
    return maps


def _text(measured: Stage) -> str:
    return f"channels={measured['channels']}, reduction={measured['reduction']}"


def _name(model: Any) -> str:
    inside = f" ({type(model.network).__name__})" if hasattr(model, "network") else ""
    return f"{type(model).__name__}{inside}"
