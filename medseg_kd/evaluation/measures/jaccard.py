"""Jaccard coefficient."""

from medseg_kd.evaluation.measures.base import LIKE_DICE, Measure, Organ
from medseg_kd.registry import MEASURES


@MEASURES.register_module()
class Jaccard(Measure):
    """Intersection over union ``|P & T| / |P | T|``."""

    unit = "percent"
    higher_is_better = True
    absent = LIKE_DICE

    def __call__(self, organ: Organ) -> float:
        """A fraction in [0, 1]."""
        return organ.both / (organ.predicted + organ.true - organ.both)
