"""What a page tells of a run beside its scores: costs, config, teacher, environment."""

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medseg_kd.errors import in_short
from medseg_kd.models.profiling import device_name, flops, inference_step, interleaved_seconds, parameter_count
from medseg_kd.registry import MODELS

_REPEAT = 5


def costs(model: nn.Module, settings: Any, slices: Tensor) -> dict[str, Any]:
    """Parameters, operations and time of a segmentor.

    Args:
        model: The segmentor, on its device.
        settings: Its config, which is built again without memory to count the operations.
        slices: (1, C, H, W), of the size that the network gets.

    Returns:
        ``parameters``, ``flops`` of a slice, ``milliseconds`` of a slice (median), the ``input`` and ``device`` in
        words; what cannot be measured is left out and told in ``remarks``.
    """
    device = next(model.parameters()).device
    found: dict[str, Any] = {
        "parameters": parameter_count(model),
        "input": f"one slice, {'x'.join(map(str, slices.shape[1:]))}",
        "device": f"{device_name(device)}, PyTorch {torch.__version__}",
        "remarks": [],
    }
    try:
        found["flops"] = _built_without_memory(settings, slices.shape)[1]
    except Exception as error:  # a network that PyTorch cannot run without data still has scores
        found["remarks"].append(f"operations were not counted: {in_short(error)}")
    try:
        step = inference_step(model, slices.to(device))
        (seconds,) = interleaved_seconds({"": step}, _REPEAT, device).values()
        found["milliseconds"] = 1e3 * statistics.median(seconds)
    except Exception as error:
        found["remarks"].append(f"time was not measured: {in_short(error)}")
    return found


def teachers(settings: Any, model: Any, shape: tuple[int, ...]) -> list[dict[str, Any]]:
    """The teachers of a distillation's config: network, checkpoint, costs and the mean Dice of its test, if known.

    Args:
        settings: ``model`` of the config, before it was set to test the student.
        model: The student, for the classes and channels that the config leaves to the data.
        shape: (1, C, H, W) of the slices.
    """
    if not isinstance(settings, Mapping):
        return []
    many = settings.get("teachers") or ()
    several: list[Any] = [(each, each.get("ckpt")) for each in many if isinstance(each, Mapping)]
    found = []
    for given, checkpoint in several or [(settings.get("teacher"), settings.get("teacher_ckpt"))]:
        if not isinstance(given, Mapping):
            continue
        told = given.get("model", given) if isinstance(given.get("model"), Mapping) else given
        teacher: dict[str, Any] = {"network": network_name(told), "checkpoint": str(checkpoint or "none")}
        counted = {"num_classes": model.num_classes, "in_channels": shape[1]} if "network" in told else {}
        try:
            teacher["parameters"], teacher["flops"] = _built_without_memory({**counted, **told}, shape)
        except Exception:  # of a teacher that is not a network here: stored probabilities, nnU-Net's folder
            teacher["parameters"] = teacher["flops"] = None
        teacher["scores"] = _test_of(Path(str(checkpoint))) if checkpoint else None
        found.append(teacher)
    return found


def method(settings: Any) -> str:
    """The distillation method of a config with its options, such as ``CWD (tau=4, loss_weight=3)``; else empty."""
    distiller = settings.get("distiller") if isinstance(settings, Mapping) else None
    if not isinstance(distiller, Mapping):
        return ""
    losses = distiller.get("distill_losses")
    names = [_name(each.get("type")) for each in losses.values()] if isinstance(losses, Mapping) else []
    plain = {key: value for key, value in distiller.items() if isinstance(value, (int, float, str)) and key != "type"}
    options = ", ".join([*names, *(f"{key}={value}" for key, value in plain.items())])
    return f"{_name(distiller.get('type'))}{f' ({options})' if options else ''}"


def network_name(settings: Mapping[str, Any]) -> str:
    """A network in words, such as ``UNet, backbone ResNetV1c 50``; the segmentor where it names none."""
    network = settings.get("network") if isinstance(settings.get("network"), Mapping) else settings
    backbone = network.get("backbone")  # type: ignore[union-attr]
    if not isinstance(backbone, Mapping):
        return _name(network.get("type"))  # type: ignore[union-attr]
    depth = f" {backbone['depth']}" if "depth" in backbone else ""
    return f"{_name(network.get('type'))}, backbone {_name(backbone.get('type'))}{depth}"  # type: ignore[union-attr]


def config_text(cfg: Any) -> str:
    """The config as the training wrote it into the run folder; of a run without one, as it is tested."""
    written = Path(cfg.work_dir, Path(cfg.filename or "").name)
    return written.read_text(encoding="utf-8") if written.is_file() else cfg.pretty_text


def _built_without_memory(settings: Any, shape: tuple[int, ...]) -> tuple[int, int]:
    """Parameters and operations of a segmentor for slices of a shape."""
    with torch.device("meta"):
        model = MODELS.build(dict(settings))
        return parameter_count(model), flops(model, torch.empty(shape))


def _test_of(checkpoint: Path) -> Any:
    """What the test of the run that a checkpoint belongs to, or that a folder is, wrote; None without one."""
    run = checkpoint if checkpoint.is_dir() else checkpoint.parent
    try:
        return json.loads((run / "test/metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _name(kind: Any) -> str:
    """The name of a class, or of one that a config names."""
    return getattr(kind, "__name__", str(kind).rpartition(".")[2])
