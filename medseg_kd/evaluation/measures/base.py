"""What a measure is, what it is made from, and how it is found by its name."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np
from mmengine.config.lazy import LazyAttr, LazyObject
from mmengine.utils.misc import get_object_from_string

from medseg_kd.errors import UserError
from medseg_kd.registry import MEASURES, check_arguments

PROTOCOLS = ("transunet", "strict")
STATUSES = ("ok", "missed", "false_alarm", "empty")
"""Of an organ: in truth and prediction, in the truth alone, in the prediction alone, in neither."""

DEFAULT = ("Dice", "Jaccard", "HD95", "ASD")
"""What is measured unless told otherwise; ``per_case.csv`` has a column for each of them in any case."""


@dataclass(frozen=True)
class Organ:
    """What is known of one organ in one case: P is the predicted object, T the true one.

    Attributes:
        name: of its class; the number of the class where the names are not known.
        predicted, true, both: voxels of P, of T, and of P and T.
        voxel_size: along each axis of the array, in mm; ones where voxels are measured.
        pred_to_truth: (n,) distance of each surface voxel of P to the surface of T; empty where no measure needs it.
        truth_to_pred: (m,) the other way round.
        surfels: what :func:`~medseg_kd.evaluation.surfels.surfel_distances` gives; empty where no measure needs it.
    """

    name: str
    predicted: int
    true: int
    both: int
    voxel_size: tuple[float, ...]
    pred_to_truth: np.ndarray = field(default_factory=partial(np.empty, 0))
    truth_to_pred: np.ndarray = field(default_factory=partial(np.empty, 0))
    surfels: tuple[np.ndarray, ...] = ()

    @property
    def status(self) -> str:
        """One of ``STATUSES``."""
        return STATUSES[2 * (not self.true) + (not self.predicted)]


class Measure:
    """One number that says how well two objects agree: a subclass maps an :class:`Organ` to its value.

    Attributes:
        title: name in tables, JSON and configs: that of the class. ``str()`` may add options that a reader must know.
        key: name in CSV files and ``score_case``: the title in small letters.
        unit: ``percent`` (a fraction in functions, percent in tables and files), ``distance`` (in voxels or mm, as the
            protocol says), or any other as it is to be shown.
        higher_is_better: whether the larger of two values is the better one.
        absent: for each protocol (``transunet``: what the published code gives) the value of an organ that is
            ``missed``, a ``false_alarm`` or ``empty``. Not-a-number is not counted. A status that is left out is
            measured like a present organ.
        needs: which of ``pred_to_truth``, ``truth_to_pred`` and ``surfels`` it looks at, most of the time of a score.
        measured_in: ``mm`` or ``voxel`` where it does not follow the protocol.
    """

    title: ClassVar[str]
    key: ClassVar[str]
    unit: ClassVar[str]
    higher_is_better: ClassVar[bool]
    absent: ClassVar[Mapping[str, Mapping[str, float]]]
    needs: tuple[str, ...] = ()
    measured_in: str | None = None

    def __init_subclass__(cls) -> None:
        cls.title, cls.key = cls.__name__, cls.__name__.lower()

    def __call__(self, organ: Organ) -> float:
        raise NotImplementedError

    def __str__(self) -> str:
        return self.title

    def score(self, organ: Organ, protocol: str) -> float:
        """The value of an organ, present or absent."""
        absent = self.absent[protocol]
        return absent[organ.status] if organ.status in absent else self(organ)

    def check(self, organs: Sequence[str], units: Collection[str]) -> None:
        """Refuse, as a UserError, what it cannot measure: these organs by name, a case that knows these units."""
        if self.measured_in not in (None, *units):
            raise UserError(
                f"{self} is measured in {self.measured_in}, but the case has no spacing. Give it its spacing, or take "
                "measured_in='voxel' where the measure has this option"
            )

    @classmethod
    def shown(cls, value: float) -> float:
        """A value as tables and files give it."""
        return 100.0 * value if cls.unit == "percent" else value


class Fraction(Measure):
    """A fraction that is 1 for equal objects; an absent object is worth what it is for Dice."""

    unit = "percent"
    higher_is_better = True
    absent = {
        "transunet": {"missed": 0.0, "false_alarm": 1.0, "empty": 0.0},
        "strict": {"missed": 0.0, "false_alarm": 0.0, "empty": math.nan},
    }


class Distance(Measure):
    """A distance of two objects, which an absent one does not have."""

    unit = "distance"
    higher_is_better = False
    absent = {"transunet": dict.fromkeys(STATUSES[1:], 0.0), "strict": dict.fromkeys(STATUSES[1:], math.nan)}


def kind_of(name: str | type | LazyObject) -> type[Measure]:
    """The class of a measure, by its title, key or path (``my_measures.Recall``), or the class itself."""
    MEASURES.import_from_location()
    known = MEASURES.module_dict.values()
    found: Any = name.build() if isinstance(name, LazyObject | LazyAttr) else name  # a class in a tuple of a config
    if isinstance(name, str):
        by_name = (kind for kind in known if name in (kind.title, kind.key))
        found = next(by_name, None) or ("." in name and get_object_from_string(name))
    if not (isinstance(found, type) and issubclass(found, Measure)):
        titles = ", ".join(sorted(kind.title for kind in known))
        raise UserError(f"measure {name!r} is not known: expected {titles}, or a class or its path")
    if lacking := [part for part in ("unit", "higher_is_better", "absent") if not hasattr(found, part)]:
        raise UserError(f"measure {found.__name__} does not say its {', '.join(lacking)} (docs/evaluation.md)")
    return found


def build_all(given: Iterable[Any]) -> list[Measure]:
    """Measures from a config: each a name or class, ``dict(type=..., option=...)`` or a measure; none twice."""
    if isinstance(given, str | Mapping) or not given:
        raise UserError(f"measures={given!r}: expected a list of one or more, such as {list(DEFAULT)}")
    built = [each if isinstance(each, Measure) else _build(each) for each in given]
    titles = [measure.title for measure in built]
    if len(set(titles)) < len(titles):
        raise UserError(f"measures {', '.join(titles)}: one is there twice. Derive a class with a name of its own")
    return built


def _build(given: Any) -> Measure:
    options = dict(given) if isinstance(given, Mapping) else {"type": given}
    kind = kind_of(options.pop("type", ""))
    check_arguments(kind, options, f"measure {kind.title}")
    return kind(**options)
