"""Dice coefficient."""

from medseg_kd.evaluation.measures.base import LIKE_DICE, Measure, Organ
from medseg_kd.registry import MEASURES


@MEASURES.register_module()
class Dice(Measure):
    """``2 |P & T| / (|P| + |T|)``."""

    unit = "percent"
    higher_is_better = True
    absent = LIKE_DICE

    def __call__(self, organ: Organ) -> float:
        """A fraction in [0, 1]."""
        return 2.0 * organ.both / (organ.predicted + organ.true)
