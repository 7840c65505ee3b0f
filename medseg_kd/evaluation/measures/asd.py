"""Average surface distance."""

from medseg_kd.evaluation.measures.base import LIKE_DISTANCE, Measure, Organ
from medseg_kd.registry import MEASURES


@MEASURES.register_module()
class ASD(Measure):
    """Mean of the distances from P to T: directed, as MedPy's ``asd``."""

    unit = "distance"
    higher_is_better = False
    absent = LIKE_DISTANCE
    needs = ("pred_to_truth",)

    def __call__(self, organ: Organ) -> float:
        """In voxels or mm."""
        return float(organ.pred_to_truth.mean())
