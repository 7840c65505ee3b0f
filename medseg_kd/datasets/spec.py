"""What the images of a data set are: told once, kept with data and checkpoints, compared wherever they meet."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from itertools import zip_longest
from typing import Any

from medseg_kd.datasets.intensities import RGB8, Intensity, Stored, find_rule
from medseg_kd.datasets.regions import describe, own_classes, read_class_order, read_regions
from medseg_kd.errors import UserError

IGNORED = 255
"""Value of pixels that take no part, in every label in memory; on disk they may have another."""
MAX_CLASSES = 255


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
        labels = {name: value for value, name in enumerate(self.classes)}
        order = dict(self.regions_class_order)
        return {
            "channel_names": {str(index): channel.name for index, channel in enumerate(self.channels)},
            "intensities": [channel.intensity.to_json() for channel in self.channels],
            "labels": labels if self.ignore_label is None else {**labels, "ignore": self.ignore_label},
            "regions": {name: list(self.regions[name]) for name in order or self.regions},
            "regions_class_order": list(order.values()),
            "orientation": self.orientation,
            "neighbours": self.neighbours,
        }

    @classmethod
    def from_json(cls, content: Any, where: str) -> "DataSpec":
        """Read what :meth:`to_json` gave; ``where`` it comes from, for messages."""
        parts = parts_of_json(content, where)
        if missing := [name for name in ("channels", "classes") if name not in parts]:
            raise UserError(f"{where}: no {' and no '.join(missing)} are named")
        return cls(**parts)

    def differences(self, other: "DataSpec") -> list[str]:
        """In what two specs differ, a line each; rules, names and orientations that one does not know do not count."""
        own, its = _names(self.channels), _names(other.channels)
        channels = zip(*_completed("channels", self.channels, other.channels), strict=True) if own == its else ()
        orders = [tuple((name, value) for name, _, value in spec.decoded) for spec in (self, other)]
        orders = [orders[0] or orders[1], orders[1] or orders[0]] if self.regions == other.regions else [(), ()]
        compared = [
            ("classes: ", *_completed("classes", self.classes, other.classes)),
            ("channels: ", own, its),
            ("regions: ", describe(self.regions), describe(other.regions)),
            ("neighbours: ", self.neighbours, other.neighbours),
            ("regions_class_order: ", *orders),
            *(("intensity of channel ", *pair) for pair in channels),
            ("orientation: ", self.orientation or other.orientation, other.orientation or self.orientation),
        ]
        return [f"{what}{_text(own)} and {_text(its)}" for what, own, its in compared if own != its]


def parts_of_config(content: Any, where: str) -> dict[str, Any]:
    """Those arguments of :class:`DataSpec` that ``dataset.spec`` of a config gives.

    Channels are a name to a rule, pairs of them, names alone, or ``'RGB'``; regions a name to class names or numbers,
    and ``regions_class_order`` a list of (name, class): a dict may come back sorted from a config that was written, as
    MMEngine writes it. ``where`` is their place, for messages.
    """
    keys = [each.name for each in fields(DataSpec)]
    if not isinstance(content, Mapping):
        raise UserError(f"{where} is {content!r}: expected dict({', '.join(f'{key}=...' for key in keys)})")
    if unknown := [key for key in content if key not in keys]:
        raise UserError(f"{where} has no key {unknown[0]!r}; it takes {', '.join(keys)}")
    parts = {key: value for key, value in content.items() if value is not None}
    if "channels" in parts:
        parts["channels"] = _channels(parts["channels"], f"{where}.channels")
    return _checked(parts, where)


def parts_of_json(content: Any, where: str) -> dict[str, Any]:
    """Those arguments of :class:`DataSpec` that the JSON form gives."""
    if not isinstance(content, Mapping):
        raise UserError(f"{where} is no description of images: expected channel_names, labels and so on")
    parts = {key: content[key] for key in ("regions", "orientation", "neighbours") if content.get(key)}
    if content.get("channel_names"):
        names = _in_order(content["channel_names"], f"{where}: channel_names")
        rules = content.get("intensities") or ["Stored"] * len(names)
        if not isinstance(rules, (list, tuple)) or len(rules) != len(names):
            raise UserError(f"{where}: {len(names)} channels, but intensities is {rules!r}: expected one for each")
        named = zip(names, rules, strict=True)
        parts["channels"] = tuple(Channel(n, find_rule(rule, f"{where}: intensity of {n}")) for n, rule in named)
    if values := content.get("labels"):
        if not isinstance(values, Mapping):
            raise UserError(f"{where}: labels is {values!r}: expected names and their values")
        if values.get("ignore") is not None:
            parts["ignore_label"] = values["ignore"]
        numbers = {str(value): name for name, value in values.items() if name != "ignore"}
        parts["classes"] = tuple(_in_order(numbers, f"{where}: labels"))
    regions, order = content.get("regions"), content.get("regions_class_order")
    if isinstance(regions, Mapping) and order:
        order = order if isinstance(order, (list, tuple)) else [order]
        parts["regions_class_order"] = list(zip_longest(regions, order))
    return _checked(parts, where)


def combine(config: Mapping[str, Any], folder: Mapping[str, Any], names: tuple[str, str]) -> dict[str, Any]:
    """What a config and a data folder say together: parts of a spec, which agree where both have them.

    Args:
        names: What to call the two in a message.
    """
    together = {**folder, **config}
    for key in (key for key in config if key in folder):
        own, its = _completed(key, config[key], folder[key])
        if own != its:
            raise UserError(
                f"{names[0]} and {names[1]} differ in {key}:\n  config: {_text(config[key])}\n  folder: "
                f"{_text(folder[key])}\nCorrect the config, or take the data that it was written for"
                + (". dataset.metainfo=None leaves the classes to the folder" if key == "classes" else "")
            )
        together[key] = own
    return together


def _completed(key: str, own: Any, its: Any) -> tuple[Any, Any]:
    """Two values of an argument, each with the names of classes and the rules of channels that only the other knows."""
    if key == "classes" and len(own) == len(its):
        nobody = unnamed(len(own))
        return (its if own == nobody else own), (own if its == nobody else its)
    if key == "channels" and _names(own) == _names(its):
        return tuple(map(_with_rule, own, its)), tuple(map(_with_rule, its, own))
    return own, its


def _with_rule(one: Channel, other: Channel) -> Channel:
    return other if isinstance(one.intensity, Stored) else one


def unnamed(count: int) -> tuple[str, ...]:
    """What classes are called whose names nobody told."""
    return ("background", *(f"class {index}" for index in range(1, count)))


def _checked(parts: dict[str, Any], where: str) -> dict[str, Any]:
    """The parts of a spec in their own types, once they make sense."""
    classes = parts.get("classes", ())
    if "classes" in parts:
        parts["classes"] = classes = _distinct(classes, f"{where}: classes")
        if "ignore" in classes:
            raise UserError(
                f"{where}: a class is named ignore, which is the name of what is no class. Set ignore_label"
            )
        if not 2 <= len(classes) <= MAX_CLASSES:
            raise UserError(f"{where}: {len(classes)} classes ({', '.join(classes)}): expected background and others")
    if "regions" in parts:
        parts["regions"] = read_regions(parts["regions"], classes, where)
    if "regions_class_order" in parts:
        order = parts["regions_class_order"]
        parts["regions_class_order"] = read_class_order(order, parts.get("regions", {}), classes, where)
    for key, highest in (("ignore_label", 65535), ("neighbours", 16)):
        if key in parts and (type(parts[key]) is not int or not 0 <= parts[key] <= highest):
            raise UserError(f"{where}: {key} is {parts[key]!r}: expected a number from 0 to {highest}")
    if not isinstance(parts.get("orientation", ""), str):
        raise UserError(f"{where}: orientation is {parts['orientation']!r}: expected a text such as LPS")
    if (ignored := parts.get("ignore_label", MAX_CLASSES)) < len(classes):
        raise UserError(f"{where}: ignore_label {ignored} is the value of the class {classes[ignored]}")
    return parts


def _channels(given: Any, where: str) -> tuple[Channel, ...]:
    """Channels of a config."""
    if given == "RGB":
        given = dict.fromkeys(("red", "green", "blue"), RGB8())
    given = list(given.items()) if isinstance(given, Mapping) else given
    if isinstance(given, (list, tuple)) and all(isinstance(each, (list, tuple)) and len(each) == 2 for each in given):
        _distinct([name for name, _ in given], where)
        return tuple(Channel(name, find_rule(rule, f"{where}.{name}")) for name, rule in given)
    return tuple(Channel(name) for name in _distinct(given, where))


def _in_order(numbered: Any, where: str) -> list[str]:
    """Values of ``{"0": ..., "1": ...}`` by their number, which run from 0 without a gap."""
    try:
        values = {int(key): value for key, value in numbered.items()}
    except (AttributeError, TypeError, ValueError):
        values = {}
    if not values or sorted(values) != list(range(len(numbered))):
        raise UserError(f"{where} is {numbered!r}: expected the numbers 0, 1, 2 and so on, each once")
    return [values[number] for number in range(len(values))]


def _distinct(names: Any, where: str) -> tuple[str, ...]:
    """Names, once each is a text and different."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise UserError(f"{where} is {names!r}: expected a list of names")
    names = tuple(names)
    if not names or not all(isinstance(name, str) and name.strip() for name in names) or len(set(names)) < len(names):
        raise UserError(f"{where} is {names!r}: expected different names")
    return names


def _names(channels: Iterable[Channel]) -> str:
    return ", ".join(channel.name for channel in channels)


def _text(value: Any) -> str:
    """A part of a spec in words."""
    if isinstance(value, Mapping):
        return describe(value)
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
