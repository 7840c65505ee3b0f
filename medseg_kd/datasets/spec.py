"""What the images of a data set are: told once, kept with data and checkpoints, compared wherever they meet."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from medseg_kd.datasets.intensities import RGB8, Intensity, Stored, find_rule
from medseg_kd.datasets.regions import describe, own_classes, read_class_order, read_regions
from medseg_kd.errors import UserError

IGNORED = 255
"""Value of pixels that take no part, in every label in memory; on disk they may have another."""
MAX_CLASSES = 255
_RGB = ("red", "green", "blue")
_KEYS = ("channels", "classes", "regions", "regions_class_order", "ignore_label", "orientation", "neighbours")


@dataclass(frozen=True)
class Channel:
    """One channel of an image: its name, and how its values become what a network sees."""

    name: str
    intensity: Intensity = field(default_factory=Stored)

    def __str__(self) -> str:
        return f"{self.name} ({self.intensity})"


@dataclass(frozen=True)
class DataSpec:
    """The images and labels of a data set.

    Args:
        channels: Of a stored image, in order.
        classes: Names of the label values 0, 1, ..., background first.
        regions: Name to the classes that it is made of. Where there are any, scores are those of regions, which may
            overlap, and not of classes. A ``Segmentor`` learns the classes, a ``RegionSegmentor`` the regions.
        regions_class_order: (name, class) of each region: what its pixels are decoded to, later ones over earlier ones.
            Where it is empty, the regions are taken from the one of most classes to that of the fewest, and each
            becomes its one class that no later region has.
        ignore_label: Value that marks pixels to ignore in the files; None where there are none. In memory it is
            ``IGNORED``.
        orientation: Of the slices, as the directions that their axes point to, such as ``LPS``; None: not known.
        neighbours: Slices above and below that are stacked as further channels (2.5D).
    """

    channels: tuple[Channel, ...]
    classes: tuple[str, ...]
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    regions_class_order: tuple[tuple[str, int], ...] = ()
    ignore_label: int | None = None
    orientation: str | None = None
    neighbours: int = 0

    @property
    def num_channels(self) -> int:
        """Channels of a network's input."""
        return len(self.channels) * (2 * self.neighbours + 1)

    @property
    def num_classes(self) -> int:
        """Classes with background."""
        return len(self.classes)

    @property
    def decoded(self) -> tuple[tuple[str, tuple[int, ...], int], ...]:
        """Regions in the order of decoding: name, classes, the class that it becomes; empty where that is not known."""
        order = self.regions_class_order or own_classes(self.regions)
        return tuple((name, self.regions[name], value) for name, value in order)

    def to_json(self) -> dict[str, Any]:
        """The spec in plain containers, named as in nnU-Net's ``dataset.json`` where that has a name for it."""
        labels: dict[str, int] = {name: value for value, name in enumerate(self.classes)}
        order = dict(self.regions_class_order)
        content: dict[str, Any] = {
            "channel_names": {str(index): channel.name for index, channel in enumerate(self.channels)},
            "intensities": [channel.intensity.to_json() for channel in self.channels],
            "labels": labels if self.ignore_label is None else {**labels, "ignore": self.ignore_label},
            "regions": {name: list(self.regions[name]) for name in order or self.regions},
            "regions_class_order": list(order.values()),
            "orientation": self.orientation,
            "neighbours": self.neighbours,
        }
        return content

    @classmethod
    def from_json(cls, content: Any, where: str) -> "DataSpec":
        """Read what :meth:`to_json` gave.

        Args:
            where: Where it comes from, for messages.

        Raises:
            UserError: It is no spec.
        """
        parts = parts_of_json(content, where)
        if missing := [name for name in ("channels", "classes") if name not in parts]:
            raise UserError(f"{where}: no {' and no '.join(missing)} are named")
        return cls(**parts)

    def differences(self, other: "DataSpec") -> list[str]:
        """In what two specs differ, a line each; rules, names and orientations that one does not know do not count."""
        found = []
        if _classes_differ(self.classes, other.classes):
            found.append(f"classes: {', '.join(self.classes)} and {', '.join(other.classes)}")
        for name, own, its in (
            ("channels", _names(self.channels), _names(other.channels)),
            ("regions", _text(self.regions), _text(other.regions)),
            ("neighbours", str(self.neighbours), str(other.neighbours)),
        ):
            if own != its:
                found.append(f"{name}: {own} and {its}")
        if self.regions == other.regions and self.decoded and other.decoded and self.decoded != other.decoded:
            orders = (_text(tuple((name, value) for name, _, value in spec.decoded)) for spec in (self, other))
            found.append(f"regions_class_order: {' and '.join(orders)}")
        if _names(self.channels) == _names(other.channels):
            pairs = zip(self.channels, other.channels, strict=True)
            found += [f"intensity of channel {own} and {its}" for own, its in pairs if _rules_differ(own, its)]
        if self.orientation and other.orientation and self.orientation != other.orientation:
            found.append(f"orientation: {self.orientation} and {other.orientation}")
        return found


def parts_of_config(content: Any, where: str) -> dict[str, Any]:
    """Those arguments of :class:`DataSpec` that ``dataset.spec`` of a config gives.

    Args:
        content: ``dict(channels=..., classes=..., ...)``. Channels are a name to a rule, pairs of them, names alone, or
            ``'RGB'``; regions a name to class names or numbers, and ``regions_class_order`` a list of (name, class): a
            dict may come back sorted from a config that was written, as MMEngine writes it.
        where: Its place, for messages.

    Raises:
        UserError: A key that there is not, or a value that makes no sense.
    """
    if not isinstance(content, Mapping):
        raise UserError(f"{where} is {content!r}: expected dict({', '.join(f'{key}=...' for key in _KEYS)})")
    if unknown := [key for key in content if key not in _KEYS]:
        raise UserError(f"{where} has no key {unknown[0]!r}; it takes {', '.join(_KEYS)}")
    parts = {key: value for key, value in content.items() if value is not None}
    if "channels" in parts:
        parts["channels"] = _channels(parts["channels"], f"{where}.channels")
    return _checked(parts, where)


def parts_of_json(content: Any, where: str) -> dict[str, Any]:
    """Those arguments of :class:`DataSpec` that the JSON form gives.

    Raises:
        UserError: As for :func:`parts_of_config`.
    """
    parts: dict[str, Any] = {}
    if not isinstance(content, Mapping):
        raise UserError(f"{where} is no description of images: expected channel_names, labels and so on")
    if content.get("channel_names"):
        names = _in_order(content["channel_names"], f"{where}: channel_names")
        rules = content.get("intensities") or ["Stored"] * len(names)
        if not isinstance(rules, Sequence) or isinstance(rules, str) or len(rules) != len(names):
            raise UserError(f"{where}: {len(names)} channels, but intensities is {rules!r}: expected one for each")
        parts["channels"] = tuple(
            Channel(name, find_rule(rule, f"{where}: intensity of {name}"))
            for name, rule in zip(names, rules, strict=True)
        )
    if content.get("labels"):
        values = content["labels"]
        if not isinstance(values, Mapping):
            raise UserError(f"{where}: labels is {values!r}: expected names and their values")
        ignored = values.get("ignore")
        parts |= {} if ignored is None else {"ignore_label": ignored}
        numbers = {str(value): name for name, value in values.items() if name != "ignore"}
        parts["classes"] = tuple(_in_order(numbers, f"{where}: labels"))
    parts |= {key: content[key] for key in ("regions", "orientation", "neighbours") if content.get(key)}
    regions, order = content.get("regions"), content.get("regions_class_order")
    if isinstance(regions, Mapping) and order:
        parts["regions_class_order"] = list(
            zip_longest(regions, order if isinstance(order, (list, tuple)) else [order])
        )
    return _checked(parts, where)


def combine(config: Mapping[str, Any], folder: Mapping[str, Any], names: tuple[str, str]) -> dict[str, Any]:
    """What a config and a data folder say together.

    Args:
        config: Parts of a spec that the config gives.
        folder: Those that the folder tells.
        names: What to call the two in a message.

    Raises:
        UserError: Both say the same thing differently.
    """
    together = {**folder, **config}
    for key in config.keys() & folder.keys():
        own, its = config[key], folder[key]
        if key == "channels":
            differ = _names(own) != _names(its) or any(map(_rules_differ, own, its))
            if not differ:
                pairs = zip(own, its, strict=True)
                together[key] = tuple(other if isinstance(one.intensity, Stored) else one for one, other in pairs)
        elif key == "classes":
            differ = _classes_differ(own, its)
            together[key] = its if own == unnamed(len(own)) else own
        else:
            differ = own != its
        if differ:
            raise UserError(
                f"{names[0]} and {names[1]} differ in {key}:\n  config: {_text(own)}\n  folder: {_text(its)}\n"
                "Correct the config, or take the data that it was written for"
                + (". dataset.metainfo=None leaves the classes to the folder" if key == "classes" else "")
            )
    return together


def unnamed(count: int) -> tuple[str, ...]:
    """What classes are called whose names nobody told."""
    return ("background", *(f"class {index}" for index in range(1, count)))


def _classes_differ(own: tuple[str, ...], its: tuple[str, ...]) -> bool:
    """Whether two lists of classes are not the same, as far as both have names."""
    either_unnamed = unnamed(len(own)) in (own, its)
    return len(own) != len(its) if either_unnamed else own != its


def _checked(parts: dict[str, Any], where: str) -> dict[str, Any]:
    """The parts of a spec in their own types, once they make sense."""
    if "classes" in parts:
        parts["classes"] = classes = _distinct(parts["classes"], f"{where}: classes")
        if "ignore" in classes:
            raise UserError(
                f"{where}: a class is named ignore, which is the name of what is no class. Set ignore_label"
            )
        if not 2 <= len(classes) <= MAX_CLASSES:
            raise UserError(f"{where}: {len(classes)} classes ({', '.join(classes)}): expected background and others")
    if "regions" in parts:
        parts["regions"] = read_regions(parts["regions"], parts.get("classes", ()), where)
    if "regions_class_order" in parts:
        regions, classes = parts.get("regions", {}), parts.get("classes", ())
        parts["regions_class_order"] = read_class_order(parts["regions_class_order"], regions, classes, where)
    for key, highest in (("ignore_label", 65535), ("neighbours", 16)):
        if key in parts and (type(parts[key]) is not int or not 0 <= parts[key] <= highest):
            raise UserError(f"{where}: {key} is {parts[key]!r}: expected a number from 0 to {highest}")
    if not isinstance(parts.get("orientation", ""), str):
        raise UserError(f"{where}: orientation is {parts['orientation']!r}: expected a text such as LPS")
    if parts.get("ignore_label", MAX_CLASSES) < len(parts.get("classes", ())):
        name = parts["classes"][parts["ignore_label"]]
        raise UserError(f"{where}: ignore_label {parts['ignore_label']} is the value of the class {name}")
    return parts


def _channels(given: Any, where: str) -> tuple[Channel, ...]:
    """Channels of a config."""
    if given == "RGB":
        given = dict.fromkeys(_RGB, RGB8())
    given = list(given.items()) if isinstance(given, Mapping) else given
    if isinstance(given, (list, tuple)) and all(isinstance(each, (list, tuple)) and len(each) == 2 for each in given):
        _distinct([name for name, _ in given], where)
        return tuple(Channel(name, find_rule(rule, f"{where}.{name}")) for name, rule in given)
    return tuple(Channel(name) for name in _distinct(given, where))


def _in_order(numbered: Any, where: str) -> list[str]:
    """Values of ``{"0": ..., "1": ...}`` by their number, which run from 0 without a gap."""
    try:
        order = sorted(numbered, key=int)
        complete = [int(key) for key in order] == list(range(len(order)))
    except (TypeError, ValueError):
        order, complete = [], False
    if not complete:
        raise UserError(f"{where} is {numbered!r}: expected the numbers 0, 1, 2 and so on, each once")
    return [numbered[key] for key in order]


def _distinct(names: Any, where: str) -> tuple[str, ...]:
    """Names, once each is a text and different."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise UserError(f"{where} is {names!r}: expected a list of names")
    names = tuple(names)
    if not names or not all(isinstance(name, str) and name.strip() for name in names) or len(set(names)) < len(names):
        raise UserError(f"{where} is {names!r}: expected different names")
    return names


def _rules_differ(one: Channel, other: Channel) -> bool:
    """Whether two channels have rules that are known and not the same."""
    rules = one.intensity, other.intensity
    return rules[0] != rules[1] and not any(isinstance(rule, Stored) for rule in rules)


def _names(channels: Iterable[Channel]) -> str:
    return ", ".join(channel.name for channel in channels)


def _text(value: Any) -> str:
    """A part of a spec in words."""
    if isinstance(value, Mapping):
        return describe(value)
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
