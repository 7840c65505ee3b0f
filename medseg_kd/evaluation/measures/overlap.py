"""Measures that count voxels: the overlap of the two objects, and their volumes whatever their place."""

import math

from medseg_kd.evaluation.measures.base import Fraction, Measure, Organ
from medseg_kd.registry import MEASURES


@MEASURES.register_module()
class Dice(Fraction):
    """``2 |P & T| / (|P| + |T|)``, a fraction in [0, 1]."""

    def __call__(self, organ: Organ) -> float:
        return 2.0 * organ.both / (organ.predicted + organ.true)


@MEASURES.register_module()
class Jaccard(Fraction):
    """Intersection over union ``|P & T| / |P | T|``, a fraction in [0, 1]."""

    def __call__(self, organ: Organ) -> float:
        return organ.both / (organ.predicted + organ.true - organ.both)


@MEASURES.register_module()
class RAVD(Measure):
    """Relative absolute volume difference ``| |P| - |T| | / |T|``, 0 or more; MedPy's ``ravd`` without its sign.

    A missed organ differs by all of its volume. Without a true volume there is none to refer to.
    """

    unit = "percent"
    higher_is_better = False
    absent = {
        "transunet": {"false_alarm": 0.0, "empty": 0.0},
        "strict": {"false_alarm": math.nan, "empty": math.nan},
    }

    def __call__(self, organ: Organ) -> float:
        return abs(organ.predicted - organ.true) / organ.true


@MEASURES.register_module()
class AVD(Measure):
    """Absolute volume difference ``| |P| - |T| |`` in mL, whatever the protocol measures in, of three axes.

    A missed organ and a false alarm differ by all of their volume.
    """

    unit = "mL"
    higher_is_better = False
    absent = {"transunet": {"empty": 0.0}, "strict": {"empty": math.nan}}
    measured_in = "mm"

    def __call__(self, organ: Organ) -> float:
        return abs(organ.predicted - organ.true) * math.prod(organ.voxel_size) / 1000
