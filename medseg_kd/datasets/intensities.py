"""Intensity rules: how the values of a channel become what a network sees."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from medseg_kd.errors import UserError


@dataclass(frozen=True)
class Intensity:
    """Base of the rules: called with all values of one channel of a case (or of a single image), it gives float32.

    Attributes:
        bounded: They lie in [0, 1].
        fixed: The :meth:`numbers` are the same for all images.
    """

    bounded: ClassVar[bool] = True
    fixed: ClassVar[bool] = True

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Apply the rule to finite values of any shape; an error where they cannot be what it is made for."""
        self.check(values)
        low, high, shift, scale = map(np.float32, self.numbers(values))
        scaled = np.clip(values, low, high, dtype=np.float32)
        scaled -= shift
        scaled /= scale
        return scaled

    def check(self, values: np.ndarray) -> None:
        """Raise an error for values that cannot be what the rule is made for."""

    def numbers(self, values: np.ndarray) -> tuple[float, float, float, float]:
        """(low, high, shift, scale) for the values of an image: they are clipped to [low, high], shifted, divided."""
        return -math.inf, math.inf, 0.0, 1.0

    def to_json(self) -> dict[str, Any]:
        """The rule in plain containers: ``type`` and its numbers."""
        return {"type": type(self).__name__, **asdict(self)}


@dataclass(frozen=True)
class Stored(Intensity):
    """Values that lie in [0, 1] already; by which rule is not known."""


@dataclass(frozen=True)
class Window(Intensity):
    """Clipped to [low, high], in Hounsfield units for CT, and scaled to [0, 1]."""

    low: float
    high: float

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if not -math.inf < self.low < self.high < math.inf:
            raise UserError(f"window {self.low:g} {self.high:g}: expected a number and a larger one, as in -125 275")

    def check(self, values: np.ndarray) -> None:
        lowest, highest = float(values.min()), float(values.max())
        if highest <= self.low or lowest >= self.high:
            raise UserError(
                f"all values ({lowest:g} to {highest:g}) lie outside the window {self.low:g} {self.high:g}. Expected "
                "Hounsfield units; give the window of this data"
            )

    def numbers(self, values: np.ndarray) -> tuple[float, float, float, float]:
        return self.low, self.high, self.low, self.high - self.low


@dataclass(frozen=True)
class CTNormalization(Window):
    """Clipped to [low, high], then (value - mean) / std; nnU-Net's rule for CT.

    The numbers are those of the foreground voxels of all training cases: percentiles 0.5 and 99.5, mean and standard
    deviation.
    """

    mean: float
    std: float
    bounded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("mean", "std"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if not (math.isfinite(self.mean) and 0 <= self.std < math.inf):
            raise UserError(f"mean {self.mean:g} and std {self.std:g}: expected numbers, the second not below 0")

    def numbers(self, values: np.ndarray) -> tuple[float, float, float, float]:
        return self.low, self.high, self.mean, max(self.std, 1e-8)


@dataclass(frozen=True)
class NoNormalization(Intensity):
    """Values as they are, of any range."""

    bounded: ClassVar[bool] = False


@dataclass(frozen=True)
class ZScore(Intensity):
    """Mean 0 and standard deviation 1 over a case; nnU-Net's rule for MR.

    Args:
        nonzero: Mean and deviation of the voxels that are not 0 (skull-stripped MR); the others become 0.
    """

    nonzero: bool = False
    bounded: ClassVar[bool] = False
    fixed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not isinstance(self.nonzero, bool):
            raise UserError(f"nonzero is {self.nonzero!r}: expected True or False")

    def __call__(self, values: np.ndarray) -> np.ndarray:
        scaled = super().__call__(values)
        return np.where(values != 0, scaled, np.float32(0)) if self.nonzero else scaled

    def numbers(self, values: np.ndarray) -> tuple[float, float, float, float]:
        counted = values[values != 0] if self.nonzero else values
        mean, deviation = (counted.mean(dtype=float), counted.std(dtype=float)) if counted.size else (0.0, 0.0)
        return -math.inf, math.inf, mean, max(deviation, 1e-8)


@dataclass(frozen=True)
class Percentiles(Intensity):
    """Clipped to two percentiles of a case and scaled to [0, 1]."""

    low: float = 0.5
    high: float = 99.5
    fixed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 100:
            raise UserError(f"percentiles {self.low} and {self.high}: expected two of 0 to 100, the larger one second")

    def numbers(self, values: np.ndarray) -> tuple[float, float, float, float]:
        low, high = np.percentile(values, (self.low, self.high)).tolist()
        return low, high, low, max(high - low, 1e-8)


@dataclass(frozen=True)
class RGB8(Intensity):
    """Bytes divided by 255: a channel of a photograph, or an 8-bit grey image."""

    def check(self, values: np.ndarray) -> None:
        if values.dtype != np.uint8:
            raise UserError(
                f"pixels are {values.dtype}, but the channel's rule is RGB8, which takes bytes. Name a rule for these "
                "values, such as dict(type='Window', low=0, high=4095) or 'Percentiles'"
            )

    def numbers(self, values: np.ndarray) -> tuple[float, float, float, float]:
        return 0.0, 255.0, 0.0, 255.0


@dataclass(frozen=True)
class MeanStd8(RGB8):
    """Bytes by the mean and standard deviation of a channel of photographs, as OpenMMLab's preprocessors scale them."""

    mean: float
    std: float
    bounded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and 0 < self.std < math.inf):
            raise UserError(f"mean {self.mean} and std {self.std}: expected numbers, the second above 0")

    def numbers(self, values: np.ndarray) -> tuple[float, float, float, float]:
        return 0.0, 255.0, self.mean, self.std


_RULES = (Stored, Window, ZScore, Percentiles, RGB8, MeanStd8, CTNormalization, NoNormalization)
RULES: dict[str, type[Intensity]] = {rule.__name__: rule for rule in _RULES}


def find_rule(value: Any, where: str) -> Intensity:
    """The rule that a config or a manifest names: its name, ``dict(type=..., ...)``, a class or a rule itself."""
    if isinstance(value, Intensity):
        return value
    entry = dict(value) if isinstance(value, Mapping) else {"type": value}
    kind = entry.pop("type", None)
    rule = RULES.get(kind) if isinstance(kind, str) else kind
    if not (isinstance(rule, type) and issubclass(rule, Intensity)):
        raise UserError(f"{where} is {value!r}: expected an intensity rule, one of {', '.join(RULES)}")
    try:
        return rule(**entry)
    except (TypeError, ValueError, UserError) as error:
        name = "" if isinstance(error, UserError) else f"{rule.__name__}: "
        raise UserError(f"{where}: {name}{error}") from error
