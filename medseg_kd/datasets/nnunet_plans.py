"""The intensity rules of nnU-Net's plans as those of a data set."""

from dataclasses import replace
from pathlib import Path

from medseg_kd.datasets.intensities import RGB8, CTNormalization, Intensity, NoNormalization, Percentiles, ZScore
from medseg_kd.datasets.spec import Channel, DataSpec
from medseg_kd.errors import UserError
from medseg_kd.nnunet_files import Normalization, Plan, read_plan

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
