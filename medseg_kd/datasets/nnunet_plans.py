"""The intensity rules of nnU-Net's plans as those of a data set."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from medseg_kd.datasets.intensities import (
    RGB8,
    CTNormalization,
    Intensity,
    NoNormalization,
    Percentiles,
    Stored,
    Window,
    ZScore,
)
from medseg_kd.datasets.spec import Channel, DataSpec, parts_of_json
from medseg_kd.errors import UserError
from medseg_kd.nnunet_files import Normalization, Plan, described, read_plan

AS_IT_IS = (-math.inf, math.inf, 1.0, 0.0)
"""What changes no value, see :func:`rescaling`."""
_RULES: dict[str, Intensity] = {
    "NoNormalization": NoNormalization(),
    "RescaleTo01Normalization": Percentiles(0, 100),
    "RGBTo01Normalization": RGB8(),
}


def rule_of(channel: Normalization, where: str) -> Intensity:
    """The rule of a channel of a plan.

    nnU-Net takes the statistics of a case after cutting off its margin of zeros, and those of a masked z-score over
    what is not zero in any channel, holes filled. :class:`ZScore` takes those of the whole case, or of what is not
    zero in the channel itself, which is the same wherever a case has neither margin nor holes.

    Raises:
        UserError: It is scaled by a class that is not nnU-Net's own.
    """
    if channel.scheme == "CTNormalization":
        return CTNormalization(channel.low, channel.high, channel.mean, channel.std)
    if channel.scheme == "ZScoreNormalization":
        return ZScore(nonzero=channel.masked)
    if channel.scheme not in _RULES:
        known = ", ".join(("CTNormalization", "ZScoreNormalization", *_RULES))
        raise UserError(f"{where}: a channel is scaled by {channel.scheme!r}: expected one of {known}")
    return _RULES[channel.scheme]


def planned_rules(path: Path, configuration: str = "2d") -> tuple[tuple[Intensity, ...], Plan]:
    """The rule of each channel of ``nnUNetPlans.json``, and the plan itself with patch size, spacing and batch size.

    Raises:
        UserError: See :func:`~medseg_kd.nnunet_files.read_plan` and :func:`rule_of`.
    """
    plan = read_plan(path, configuration)
    return tuple(rule_of(channel, plan.where) for channel in plan.channels), plan


def results_spec(results: Path, rule: Intensity | None = None) -> DataSpec:
    """What the images of nnU-Net's results folder are, by its ``dataset.json``.

    Args:
        rule: Of all channels; None leaves them unknown (:class:`Stored`).
    """
    path = results / "dataset.json"
    spec = DataSpec(**parts_of_json(described(path), str(path)))
    return spec if rule is None else with_rules(spec, (rule,) * len(spec.channels), str(path))


def with_rules(spec: DataSpec, rules: tuple[Intensity, ...], where: str) -> DataSpec:
    """A spec whose channels have these rules.

    Raises:
        UserError: Their numbers differ.
    """
    if len(rules) != len(spec.channels):
        names = ", ".join(channel.name for channel in spec.channels)
        raise UserError(f"{where}: rules for {len(rules)} channel(s), but the data have {len(spec.channels)} ({names})")
    channels = (Channel(channel.name, rule) for channel, rule in zip(spec.channels, rules, strict=True))
    return replace(spec, channels=tuple(channels))


def rescaling(channel: Channel, rule: Intensity) -> tuple[float, float, float, float]:
    """How values that a data set's rule gave become those of another rule: clip(x, low, high) * factor + offset.

    Raises:
        UserError: They cannot be computed from those; the message says what to write.
    """
    own = channel.intensity
    if own == rule:
        return AS_IT_IS
    if own.fixed and rule.fixed and not isinstance(own, Stored):
        (lowest, highest, shift, scale), (low, high, mean, std) = _numbers(own), _numbers(rule)
        if lowest <= low and highest >= high:
            return (low - shift) / scale, (high - shift) / scale, scale / std, (shift - mean) / std
    hint = f"channels={{{channel.name!r}: {dict(rule.to_json())}}}"
    if isinstance(own, Stored):
        raise UserError(
            f"channel {channel.name}: its values were stored by a rule that is not known, so that nnU-Net's {rule} "
            "cannot be computed. Name the rule that they were stored by in dataset.spec, such as "
            f"channels={{{channel.name!r}: dict(type='Window', low=-125, high=275)}}"
        )
    wider = f", or a Window from {rule.low:g} or below to {rule.high:g} or above" if isinstance(rule, Window) else ""
    raise UserError(
        f"channel {channel.name}: nnU-Net's {rule} cannot be computed from the data's {own}, which has lost values "
        f"that it needs. Train on nnU-Net's rule, dataset.spec=dict({hint}) in all dataloaders{wider}"
    )


def _numbers(rule: Intensity) -> tuple[float, float, float, float]:
    """See :meth:`Intensity.numbers`, of a rule that has the same for all images; bytes need no clipping."""
    low, high, shift, scale = rule.numbers(np.zeros(1))
    return (-math.inf, math.inf, shift, scale) if isinstance(rule, RGB8) else (low, high, shift, scale)
