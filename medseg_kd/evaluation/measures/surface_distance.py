"""Measures of the distances between the surfaces of the two objects."""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from medseg_kd.errors import UserError
from medseg_kd.evaluation.measures.base import Distance, Fraction, Organ
from medseg_kd.registry import MEASURES

CONVENTIONS = {"medpy": "MedPy", "monai": "MONAI", "deepmind": "DeepMind"}
"""Of HD95: the libraries whose values it gives."""

ROUNDING = 1 + 1e-9
"""A surface that is exactly the tolerance away is within it, whatever the last bit of its distance."""


@MEASURES.register_module()
class HD95(Distance):
    """95th percentile of the distances of the two surfaces, in voxels or mm, as one of three libraries defines it.

    Args:
        convention: ``medpy``: percentile (linear) of the distances of both directions *pooled in one list*. ``monai``:
            the larger of the percentiles of the two directions (``compute_hausdorff_distance(percentile=95)``).
            ``deepmind``: the same of surface elements between the voxels, weighed by their area
            (``compute_robust_hausdorff`` of surface-distance). What an absent organ is worth, the protocol says.

    Raises:
        UserError: the convention is none of these.
    """

    def __init__(self, convention: str = "medpy") -> None:
        if convention not in CONVENTIONS:
            raise UserError(f"HD95: convention={convention!r}: expected one of {', '.join(CONVENTIONS)}")
        self.convention = convention
        self.needs = ("surfels",) if convention == "deepmind" else ("pred_to_truth", "truth_to_pred")

    def __call__(self, organ: Organ) -> float:
        ways = organ.pred_to_truth, organ.truth_to_pred
        if self.convention == "medpy":
            return float(np.percentile(np.concatenate(ways), 95))
        if self.convention == "monai":
            return max(map(_percentile_of_monai, ways))
        to_truth, areas, to_pred, true_areas = organ.surfels
        return max(_weighted_percentile(to_truth, areas), _weighted_percentile(to_pred, true_areas))

    def __str__(self) -> str:
        return self.title if self.convention == "medpy" else f"{self.title} ({CONVENTIONS[self.convention]})"


def _percentile_of_monai(distances: np.ndarray) -> float:
    """95th percentile (linear) of (n,) distances, at the place that MONAI takes: its product is float32's."""
    last = len(distances) - 1
    return float(np.quantile(distances, float(np.float32(0.95) * np.float32(last)) / max(last, 1)))


def _weighted_percentile(distances: np.ndarray, areas: np.ndarray) -> float:
    """The first of (n,) distances, in order, up to which 95 % of the area lies."""
    order = np.lexsort((areas, distances))
    share = np.cumsum(areas[order]) / np.sum(areas[order])
    return float(distances[order[min(int(np.searchsorted(share, 0.95)), len(order) - 1)]])


@MEASURES.register_module()
class ASD(Distance):
    """Average surface distance from P to T in voxels or mm: directed, as MedPy's ``asd``."""

    needs = ("pred_to_truth",)

    def __call__(self, organ: Organ) -> float:
        return float(organ.pred_to_truth.mean())


@MEASURES.register_module()
class NSD(Fraction):
    """Normalised surface Dice: the part of the two surfaces, in [0, 1], that lies within a tolerance of the other one.

    Nikolov et al., JMIR 2021. Surface voxels are MedPy's and count alike, as in MONAI's ``compute_surface_dice``.
    DeepMind's surface-distance (MONAI's ``use_subvoxels``) places the surface between voxels and weighs its pieces by
    their area.

    Args:
        tolerance: in ``measured_in``; one number, or one for each organ by its name.
        measured_in: ``mm``, or ``voxel`` where the spacing is not known.

    Raises:
        UserError: a tolerance is none, or the unit is not known.
    """

    needs = ("pred_to_truth", "truth_to_pred")

    def __init__(self, tolerance: float | Mapping[str, float], measured_in: str = "mm") -> None:
        values = tolerance.values() if isinstance(tolerance, Mapping) else [tolerance]
        if not all(isinstance(value, int | float) and 0 <= value < math.inf for value in values):
            raise UserError(f"NSD: tolerance={tolerance!r}: expected 0 or more, a number or one for each organ")
        if measured_in not in ("mm", "voxel"):
            raise UserError(f"NSD: measured_in={measured_in!r}: expected mm or voxel")
        self.tolerance, self.measured_in = tolerance, measured_in

    def __call__(self, organ: Organ) -> float:
        tolerance = self.tolerance[organ.name] if isinstance(self.tolerance, Mapping) else self.tolerance
        return float(np.mean(np.concatenate([organ.pred_to_truth, organ.truth_to_pred]) <= tolerance * ROUNDING))

    def __str__(self) -> str:
        given = self.tolerance.items() if isinstance(self.tolerance, Mapping) else [("within", self.tolerance)]
        return f"NSD ({', '.join(f'{name} {value:g}' for name, value in given)} {self.measured_in})"

    def check(self, organs: Sequence[str], units: Collection[str]) -> None:
        """See the base class; an organ without a tolerance is refused too."""
        super().check(organs, units)
        if isinstance(self.tolerance, Mapping) and (lacking := [n for n in organs if n not in self.tolerance]):
            raise UserError(f"NSD: tolerance has no {', '.join(lacking)}: expected all of {', '.join(organs)}")
